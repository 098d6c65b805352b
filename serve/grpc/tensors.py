"""Tensors of the Open Inference Protocol over gRPC: contents in fields, or raw."""

from collections.abc import Mapping, Sequence
from typing import Any

from serve.errors import InputError
from serve.grpc.messages import MESSAGES
from serve.oip.elements import BYTES, Tensor, as_bytes, check_rows, datatype_of, decoded
from serve.oip.scalars import read_values, scalar_type, single_value

RAW = "raw_input_contents"
"""Field that holds the data of all inputs in binary form."""


def read_inputs(request: Any, parameters: Sequence[str]) -> tuple[dict[str, list[str]], dict[str, Any]]:
    """Return the texts of each input by its name, and the value of each that is one of the parameters.

    Raises:
        InputError: An input comes twice or has another datatype or number of values than it should, or there are not
            as many raw contents as inputs.
    """
    raw = list(request.raw_input_contents)
    if raw and len(raw) != len(request.inputs):
        raise InputError(f"{RAW} has {len(raw)} entries for {len(request.inputs)} inputs: send one for each")
    texts: dict[str, list[str]] = {}
    values: dict[str, Any] = {}
    for place, tensor in enumerate(request.inputs):
        name, shape = tensor.name, list(tensor.shape)
        if name in texts or name in values:
            raise InputError(f"inputs has {name!r} twice")
        if tensor.parameters:
            raise InputError(f"input {name!r} has parameters: there are none")
        datatype = tensor.datatype if name in parameters else BYTES
        found = _values(tensor, datatype, raw[place] if raw else None)
        if name in parameters:
            values[name] = single_value(name, datatype, shape, found)
        else:
            check_rows(name, tensor.datatype, shape, found)
            texts[name] = found
    return texts, values


def _values(tensor: Any, datatype: str, raw: bytes | None) -> list[Any]:
    """Return the values of an input, from its raw contents or the field of its datatype."""
    field = scalar_type(tensor.name, datatype).contents
    if other := [one.name for one, _ in tensor.contents.ListFields() if raw is not None or one.name != field]:
        content, where = "texts" if datatype == BYTES else datatype, field if raw is None else RAW
        raise InputError(f"input {tensor.name!r} has {other[0]}: send {content} in {where} alone")
    if raw is not None:
        return read_values(tensor.name, datatype, raw)
    found = list(getattr(tensor.contents, field))
    return decoded(tensor.name, found) if datatype == BYTES else found


def read_parameters(parameters: Mapping[str, Any]) -> dict[str, Any]:
    """Return the values of parameters by name; raise an InputError for one without a value."""
    choices = {name: one.WhichOneof("parameter_choice") for name, one in parameters.items()}
    for name, choice in choices.items():
        if choice is None:
            raise InputError(f"parameter {name!r} has no value")
    return {name: getattr(parameters[name], choice) for name, choice in choices.items()}


def read_outputs(request: Any) -> list[str]:
    """Return the names of the outputs that are asked for; raise an InputError for one with parameters."""
    for output in request.outputs:
        if output.parameters:
            raise InputError(f"output {output.name!r} has parameters: there are none")
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
