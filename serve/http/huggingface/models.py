"""POST / and /models/NAME, which Hugging Face's clients send to a model: the kind of the model says what they ask."""

from fastapi import APIRouter, Request, Response
from pydantic import RootModel

from serve.engine import Capability, Engine
from serve.errors import MAX_NAME, InputError, UnknownAdapter, shortened
from serve.http.huggingface.generation_messages import TextGenerationInput
from serve.http.huggingface.text_classification import TextClassificationInput, classify
from serve.http.huggingface.text_generation import generate
from serve.http.openapi import request_body
from serve.lookup import look_up

router = APIRouter()
ANSWERS = {Capability.CLASSIFY: classify, Capability.GENERATE: generate}
"""Functions that answer, by the capability that a model needs."""


class ModelInput(RootModel[TextClassificationInput | TextGenerationInput]):
    """Texts to classify, or one to continue."""


@router.post("/models/{name:path}", response_model=None, openapi_extra=request_body(ModelInput))
async def model(request: Request, name: str) -> Response:
    """Classify or continue texts through one adapter, as Hugging Face's inference API does."""
    engine: Engine = request.app.state.engine
    await look_up(engine, name)
    part = next((part for part in engine.parts() if part.serves(name)), None)
    if part is None:
        raise UnknownAdapter(f"there is no model {shortened(name, MAX_NAME)!r} here; /v1/models lists those there are")
    return await _answer(request, part.capabilities, name)


@router.post("/", response_model=None, openapi_extra=request_body(ModelInput))
async def only_model(request: Request) -> Response:
    """Classify or continue texts through the only adapter, or the one that `adapter_id` names."""
    engine: Engine = request.app.state.engine
    return await _answer(request, engine.capabilities, None)


async def _answer(request: Request, capabilities: frozenset[Capability], name: str | None) -> Response:
    if len(capabilities) > 1:
        raise InputError("models here classify and generate: name one in the address, /models/NAME")
    (capability,) = capabilities
    return await ANSWERS[capability](request, name)
