"""POST /v1/chat/completions: chats through the base's chat template, or an adapter's own prompt."""

from typing import Any

from fastapi import APIRouter, Request, Response
from pydantic import BaseModel

from serve.http.openai.answers import complete, stream
from serve.http.openai.chat_answers import WHOLE, ChatForm
from serve.http.openai.chat_messages import ChatRequest
from serve.http.openai.protocol import Usage
from serve.http.openai.tool_calls import tool_use
from serve.http.openapi import request_body
from serve.lookup import look_up

router = APIRouter()


class ChatCompletion(BaseModel):
    """The response, or one event of a stream, whose choices have a delta in the place of the message."""

    id: str
    object: str = WHOLE
    created: int
    model: str
    choices: list[dict[str, Any]]
    usage: Usage | None = None


@router.post("/v1/chat/completions", response_model=ChatCompletion, openapi_extra=request_body(ChatRequest))
async def chat_completions(request: Request) -> Response:
    """Generate the next message of a chat.

    The base reads a chat through its chat template. An adapter reads the one message of the user in the prompt that it
    was trained on, which `/v1/models` tells. The headers are those of `/v1/completions`.
    """
    body = ChatRequest.from_json(await request.body())
    request.state.field_names = body.field_names()
    state = request.app.state
    await look_up(state.engine, body.model)  # whose chat template says how it calls tools
    tools = tool_use(state.engine, body.model, body.tools, body.tool_choice, parallel=body.parallel_tool_calls)
    asked = body.generation_request(state.max_client_batch_size, tools)
    form = ChatForm(body, tools)
    if body.stream:
        return await stream(request, asked, form, body.options)
    return await complete(request, asked, form)
