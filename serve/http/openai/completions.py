"""POST /v1/completions: an adapter is a model."""

from fastapi import APIRouter, Request, Response

from serve.http.openai.answers import complete, stream
from serve.http.openai.completion_messages import Completion, CompletionForm, CompletionRequest
from serve.http.openapi import request_body

router = APIRouter()


@router.post("/v1/completions", response_model=Completion, openapi_extra=request_body(CompletionRequest))
async def completions(request: Request) -> Response:
    """Generate texts for each prompt, through an adapter of the bank.

    The headers `X-Adapter` and `X-Adapter-Sha256` name the adapter that generated. A client that disconnects cancels
    its sequences.
    """
    body = CompletionRequest.from_json(await request.body())
    request.state.field_names = body.field_names()
    asked = body.generation_request(request.app.state.max_client_batch_size)
    form = CompletionForm(body)
    if body.stream:
        return await stream(request, asked, form, body.options)
    return await complete(request, asked, form)
