"""The methods of the Open Inference Protocol's service; a new one is an entry in the table."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any, cast

from serve.engine import ClassificationEngine, Engine
from serve.errors import DeviceLost, InputError, ShuttingDown
from serve.grpc.messages import MESSAGES
from serve.oip.elements import Tensor, as_bytes, check_rows, datatype_of, decoded, read_elements
from serve.oip.inference import Parameter, run_inference
from serve.oip.models import find_model, models_of, server_metadata

RAW, CONTENTS = "raw_input_contents", "bytes_contents"
"""Fields that hold texts."""


@dataclass(frozen=True, kw_only=True)
class Service:
    """An engine of classifiers behind gRPC."""

    engine: Engine
    limit: int
    """Most texts in one request."""

    async def live(self, request: Any) -> Any:
        """Answer while the process does."""
        return MESSAGES["ServerLiveResponse"](live=True)

    async def ready(self, request: Any) -> Any:
        """Say whether requests are taken."""
        return MESSAGES["ServerReadyResponse"](ready=self._takes_requests())

    async def model_ready(self, request: Any) -> Any:
        """Say whether a model takes requests."""
        find_model(self.engine, request.name, request.version or None)
        return MESSAGES["ModelReadyResponse"](ready=self._takes_requests())

    async def metadata(self, request: Any) -> Any:
        """Describe the server."""
        return MESSAGES["ServerMetadataResponse"](**server_metadata())

    async def model_metadata(self, request: Any) -> Any:
        """Describe a model: its inputs, its outputs, and the version of its weights."""
        return MESSAGES["ModelMetadataResponse"](
            **find_model(self.engine, request.name, request.version or None).metadata()
        )

    async def index(self, request: Any) -> Any:
        """List the models, once for each version."""
        models = [entry for model in models_of(self.engine).values() for entry in model.index()]
        return MESSAGES["RepositoryIndexResponse"](models=models)

    async def infer(self, request: Any) -> Any:
        """Classify texts; data comes back in the form in which it came."""
        if self.engine.stats().draining:
            raise ShuttingDown("the server is stopping")
        version = request.model_version or None
        model = find_model(self.engine, request.model_name, version)
        if wrong := next((output.name for output in request.outputs if output.parameters), None):
            raise InputError(f"output {wrong!r} has parameters: there are none")
        found = await run_inference(
            cast(ClassificationEngine, self.engine),
            model,
            _texts(request),
            {name: _value(name, one) for name, one in request.parameters.items()},
            [output.name for output in request.outputs],
            version=version,
            limit=self.limit,
        )
        response = MESSAGES["ModelInferResponse"](
            model_name=request.model_name, model_version=found.version, id=request.id
        )
        for name, tensor in found.tensors.items():
            output = response.outputs.add(name=name, datatype=datatype_of(tensor), shape=tensor.shape)
            if request.raw_input_contents:
                response.raw_output_contents.append(as_bytes(tensor))
            else:
                _set_contents(output, tensor)
        return response

    def _takes_requests(self) -> bool:
        stats = self.engine.stats()
        if stats.failure is not None:
            raise DeviceLost(stats.failure)
        return not stats.draining


Method = Callable[[Service, Any], Awaitable[Any]]
METHODS: dict[str, tuple[str, Method]] = {
    "ServerLive": ("ServerLiveRequest", Service.live),
    "ServerReady": ("ServerReadyRequest", Service.ready),
    "ModelReady": ("ModelReadyRequest", Service.model_ready),
    "ServerMetadata": ("ServerMetadataRequest", Service.metadata),
    "ModelMetadata": ("ModelMetadataRequest", Service.model_metadata),
    "ModelInfer": ("ModelInferRequest", Service.infer),
    "RepositoryIndex": ("RepositoryIndexRequest", Service.index),
}
"""Name of a method → its request's message, and the function that answers."""


def _texts(request: Any) -> dict[str, list[str]]:
    """Return the texts of each input by its name.

    Raises:
        InputError: An input comes twice or is not of texts, or there are not as many raw contents as inputs.
    """
    raw = list(request.raw_input_contents)
    if raw and len(raw) != len(request.inputs):
        raise InputError(f"{RAW} has {len(raw)} entries for {len(request.inputs)} inputs: send one for each")
    found: dict[str, list[str]] = {}
    for place, tensor in enumerate(request.inputs):
        if tensor.name in found:
            raise InputError(f"inputs has {tensor.name!r} twice")
        if tensor.parameters:
            raise InputError(f"input {tensor.name!r} has parameters: there are none")
        if other := [one.name for one, _ in tensor.contents.ListFields() if raw or one.name != CONTENTS]:
            raise InputError(f"input {tensor.name!r} has {other[0]}: send texts in {RAW if raw else CONTENTS} alone")
        if raw:
            texts = read_elements(tensor.name, raw[place])
        else:
            texts = decoded(tensor.name, list(tensor.contents.bytes_contents))
        check_rows(tensor.name, tensor.datatype, list(tensor.shape), texts)
        found[tensor.name] = texts
    return found


def _value(name: str, parameter: Any) -> Parameter:
    choice = parameter.WhichOneof("parameter_choice")
    if choice is None:
        raise InputError(f"parameter {name} has no value")
    value: Parameter = getattr(parameter, choice)
    return value


def _set_contents(output: Any, tensor: Tensor) -> None:
    if tensor.dtype == object:
        output.contents.bytes_contents.extend(text.encode() for text in tensor.ravel())
    else:
        output.contents.fp32_contents.extend(tensor.ravel().tolist())
