"""The methods of the Open Inference Protocol's service; a new one is an entry in a table."""

from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable
from contextlib import aclosing
from dataclasses import dataclass
from typing import Any, cast

from serve.adapter_loading import UNLOAD_PARAMETERS, AdapterLoading, check_parameters
from serve.engine import Engine, GenerationEngine
from serve.errors import InputError, ShuttingDown, UnknownAdapter
from serve.generated_text import StreamStart, TextDelta
from serve.grpc.messages import MESSAGES
from serve.grpc.tensors import read_inputs, read_outputs, read_parameters, response_to
from serve.oip.elements import tensor_of
from serve.oip.generation import generation_request, stream_text
from serve.oip.inference import check_inputs, checked_outputs, run_inference
from serve.oip.models import TEXT_INPUT, Model, find_model, model_index, server_metadata, version_of
from serve.oip.outputs import FINISH_REASON, TEXT_OUTPUT
from serve.oip.parameters import STREAM, merged
from serve.readiness import Readiness

FINAL_RESPONSE = "triton_final_response"
"""Parameter of a response in a stream: it is the request's last one."""
EMPTY_FINAL_RESPONSE = "triton_enable_empty_final_response"
"""Parameter of a request in a stream; no response here is empty."""


@dataclass(frozen=True, kw_only=True)
class Service:
    """An engine behind gRPC."""

    engine: Engine
    loading: AdapterLoading
    limit: int
    """Most texts in one request."""
    readiness: Readiness

    async def live(self, request: Any) -> Any:
        """Say whether the process can answer; once it is not live, only a restart helps."""
        self.readiness.check_live()
        return MESSAGES["ServerLiveResponse"](live=True)

    async def ready(self, request: Any) -> Any:
        """Say whether the server has warmed up and has not begun to stop."""
        return MESSAGES["ServerReadyResponse"](ready=self.readiness.is_ready)

    async def model_ready(self, request: Any) -> Any:
        """Say whether a model takes requests; one that is not there does not, as Triton has it."""
        try:
            await find_model(self.engine, request.name, request.version or None)
        except UnknownAdapter:
            return MESSAGES["ModelReadyResponse"](ready=False)
        return MESSAGES["ModelReadyResponse"](ready=self.readiness.is_ready)

    async def metadata(self, request: Any) -> Any:
        """Describe the server."""
        return MESSAGES["ServerMetadataResponse"](**server_metadata())

    async def model_metadata(self, request: Any) -> Any:
        """Describe a model: its inputs, its outputs, and the version of its weights."""
        model = await find_model(self.engine, request.name, request.version or None)
        return MESSAGES["ModelMetadataResponse"](**model.metadata())

    async def index(self, request: Any) -> Any:
        """List the models, once for each version."""
        if request.repository_name:
            raise InputError(f"there is no repository {request.repository_name!r}: leave out repository_name")
        return MESSAGES["RepositoryIndexResponse"](
            models=model_index(self.engine, obstacle=self.readiness.obstacle, ready=request.ready)
        )

    async def load(self, request: Any) -> Any:
        """Load the adapter in the folder of its name, or replace the one there is."""
        self.loading.allowed_root()
        name = _name_of(request)
        check_parameters(request.parameters)
        await self.loading.load(name, name, replace=True)
        return MESSAGES["RepositoryModelLoadResponse"](model_name=name, isLoaded=True)

    async def unload(self, request: Any) -> Any:
        """Unload an adapter; requests that arrived before still get it."""
        self.loading.allowed_root()
        name = _name_of(request)
        check_parameters(request.parameters, UNLOAD_PARAMETERS)
        await self.loading.unload(name)
        return MESSAGES["RepositoryModelUnloadResponse"](model_name=name, isUnloaded=True)

    async def infer(self, request: Any) -> Any:
        """Classify texts, or generate them; data comes back in the form in which it came."""
        return await self._infer(request, await self._model(request), read_parameters(request.parameters))

    async def stream_infer(self, request: Any) -> AsyncIterator[Any]:
        """Generate a text in pieces, or classify texts: the responses to one request of a stream."""
        model, parameters = await self._model(request), read_parameters(request.parameters)
        parameters.pop(EMPTY_FINAL_RESPONSE, None)
        if model.generates:
            async with aclosing(self._pieces(request, model, parameters)) as responses:
                async for response in responses:
                    yield response
        else:
            yield _in_stream(await self._infer(request, model, parameters), final=True)

    async def _model(self, request: Any) -> Model:
        if self.engine.stats().draining:
            raise ShuttingDown("the server is stopping")
        return await find_model(self.engine, request.model_name, request.model_version or None)

    async def _infer(self, request: Any, model: Model, parameters: dict[str, Any]) -> Any:
        outputs, version = read_outputs(request), request.model_version or None
        texts, values = read_inputs(request, model.parameters)
        found = await run_inference(
            self.engine, model, texts, merged(parameters, values), outputs, version=version, limit=self.limit
        )
        return response_to(request, found.version, found.tensors)

    async def _pieces(self, request: Any, model: Model, parameters: dict[str, Any]) -> AsyncGenerator[Any, None]:
        """Yield a response for each piece of a text, and a last one with the reason for its end."""
        inputs, values = read_inputs(request, model.parameters)
        names = checked_outputs(model, read_outputs(request))
        check_inputs(model, inputs, limit=self.limit)
        parameters = merged(parameters, values)
        pieces = parameters.pop(STREAM, True)
        if not isinstance(pieces, bool):
            raise InputError(f"parameter {STREAM} is {pieces!r}: it must be of type bool")
        asked = generation_request(model, inputs[TEXT_INPUT], parameters, limit=self.limit)
        version, sent = "", ""
        events = stream_text(cast(GenerationEngine, self.engine), model, asked, version=request.model_version or None)
        async with aclosing(events):
            async for event in events:
                if isinstance(event, StreamStart):
                    version = version_of(event.sha256)
                    continue
                texts = {TEXT_OUTPUT: event.text}
                if isinstance(event, TextDelta):
                    if not pieces:
                        continue
                    sent += event.text
                else:
                    texts = {TEXT_OUTPUT: event.text[len(sent) :], FINISH_REASON: str(event.finish_reason)}
                tensors = {name: tensor_of([texts[name]]) for name in names if name in texts}
                yield _in_stream(response_to(request, version, tensors), final=FINISH_REASON in texts)


Method = Callable[[Service, Any], Awaitable[Any]]
METHODS: dict[str, tuple[str, Method]] = {
    "ServerLive": ("ServerLiveRequest", Service.live),
    "ServerReady": ("ServerReadyRequest", Service.ready),
    "ModelReady": ("ModelReadyRequest", Service.model_ready),
    "ServerMetadata": ("ServerMetadataRequest", Service.metadata),
    "ModelMetadata": ("ModelMetadataRequest", Service.model_metadata),
    "ModelInfer": ("ModelInferRequest", Service.infer),
    "RepositoryIndex": ("RepositoryIndexRequest", Service.index),
    "RepositoryModelLoad": ("RepositoryModelLoadRequest", Service.load),
    "RepositoryModelUnload": ("RepositoryModelUnloadRequest", Service.unload),
}
"""Name of a method → its request's message, and the function that answers."""
StreamMethod = Callable[[Service, Any], AsyncIterator[Any]]
STREAMS: dict[str, tuple[str, StreamMethod]] = {"ModelStreamInfer": ("ModelInferRequest", Service.stream_infer)}
"""The same for methods that take a stream of requests; each function yields the responses to one of them."""
COUNTED = ("ModelInfer", "ModelStreamInfer", "RepositoryIndex", "RepositoryModelLoad", "RepositoryModelUnload")
"""Methods whose requests are counted: those that are POST over HTTP."""


def stream_error(request: Any, message: str) -> Any:
    """Return the response to a request of a stream that fails, with the request's id; the stream goes on."""
    named = MESSAGES["ModelInferResponse"](id=request.id)
    return MESSAGES["ModelStreamInferResponse"](error_message=message, infer_response=named)


def _in_stream(response: Any, *, final: bool) -> Any:
    response.parameters[FINAL_RESPONSE].bool_param = final
    return MESSAGES["ModelStreamInferResponse"](infer_response=response)


def _name_of(request: Any) -> str:
    """Return the model of a request, which KServe's clients send as the first field, Triton's repository."""
    if request.model_name and request.repository_name:
        raise InputError(f"there is no repository {request.repository_name!r}: leave out repository_name")
    name: str = request.model_name or request.repository_name
    if not name:
        raise InputError("there is no model_name: send the adapter's name")
    return name
