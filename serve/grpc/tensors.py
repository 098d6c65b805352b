"""Tensors of the Open Inference Protocol over gRPC: contents in fields, or raw."""

from collections.abc import Mapping
from typing import Any

from serve.errors import InputError
from serve.grpc.messages import MESSAGES
from serve.oip.elements import Tensor, as_bytes, check_rows, datatype_of, decoded, read_elements

RAW, CONTENTS = "raw_input_contents", "bytes_contents"
"""Fields that hold texts."""


def read_texts(request: Any) -> dict[str, list[str]]:
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


def read_parameters(parameters: Mapping[str, Any]) -> dict[str, Any]:
    """Return the values of parameters by name; raise an InputError for one without a value."""
    choices = {name: one.WhichOneof("parameter_choice") for name, one in parameters.items()}
    if empty := next((name for name, choice in choices.items() if choice is None), None):
        raise InputError(f"parameter {empty} has no value")
    return {name: getattr(parameters[name], choice) for name, choice in choices.items()}


def read_outputs(request: Any) -> list[str]:
    """Return the names of the outputs that are asked for; raise an InputError for one with parameters."""
    if wrong := next((output.name for output in request.outputs if output.parameters), None):
        raise InputError(f"output {wrong!r} has parameters: there are none")
    return [output.name for output in request.outputs]


def response_to(request: Any, version: str, tensors: Mapping[str, Tensor]) -> Any:
    """Return the response to a request; its data has the form in which the request's came."""
    response = MESSAGES["ModelInferResponse"](model_name=request.model_name, model_version=version, id=request.id)
    for name, tensor in tensors.items():
        output = response.outputs.add(name=name, datatype=datatype_of(tensor), shape=tensor.shape)
        if request.raw_input_contents:
            response.raw_output_contents.append(as_bytes(tensor))
        elif tensor.dtype == object:
            output.contents.bytes_contents.extend(text.encode() for text in tensor.ravel())
        else:
            output.contents.fp32_contents.extend(tensor.ravel().tolist())
    return response
