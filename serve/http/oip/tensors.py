"""Tensors of the Open Inference Protocol over HTTP: in JSON, or in binary form behind the JSON."""

from collections.abc import Mapping, Sequence
from typing import Any

from serve.errors import MAX_NAME, InputError, shortened
from serve.http.oip.messages import InputTensor
from serve.oip.elements import Tensor, as_bytes, check_rows, datatype_of, read_elements
from serve.oip.scalars import read_values, single_value

BINARY_SIZE = "binary_data_size"


def read_inputs(
    inputs: Sequence[InputTensor], binary: bytes, parameters: Sequence[str]
) -> tuple[dict[str, list[str]], dict[str, Any]]:
    """Return the texts of each tensor by its name, and the value of each that is a parameter.

    Args:
        inputs: The tensors.
        binary: Data of those that have a size, in their order.
        parameters: Names of the tensors that are parameters.

    Raises:
        InputError: A tensor comes twice, has another datatype or number of values than it should, or has bytes that
            are cut short, too many, or no UTF-8.
    """
    texts: dict[str, list[str]] = {}
    values: dict[str, Any] = {}
    start = 0
    for tensor in inputs:
        if tensor.name in texts or tensor.name in values:
            raise InputError(f"inputs has {tensor.name!r} twice")
        size = _size(tensor, left=len(binary) - start)
        data = None if size is None else binary[start : start + size]
        start += size or 0
        if tensor.name in parameters:
            found = _listed(tensor) if data is None else read_values(tensor.name, tensor.datatype, data)
            values[tensor.name] = single_value(tensor.name, tensor.datatype, tensor.shape, found)
        else:
            texts[tensor.name] = _texts(tensor) if data is None else read_elements(tensor.name, data)
            check_rows(tensor.name, tensor.datatype, tensor.shape, texts[tensor.name])
    if start != len(binary):
        raise InputError(f"{len(binary) - start} bytes behind the JSON belong to no input: say their {BINARY_SIZE}")
    return texts, values


def json_output(name: str, tensor: Tensor) -> dict[str, Any]:
    """Return an output with its data in JSON."""
    return {**_described(name, tensor), "data": tensor.ravel().tolist()}


def binary_output(name: str, tensor: Tensor) -> tuple[dict[str, Any], bytes]:
    """Return an output with the size of its data, and the data."""
    data = as_bytes(tensor)
    return {**_described(name, tensor), "parameters": {BINARY_SIZE: len(data)}}, data


def check_known(tensor: str, parameters: Mapping[str, Any], known: str) -> None:
    """Raise an InputError if a tensor has another parameter than the one that is known."""
    for name in parameters:
        if name != known:
            raise InputError(f"{tensor} has an unknown parameter {shortened(name, MAX_NAME)!r}; known is {known}")


def _described(name: str, tensor: Tensor) -> dict[str, Any]:
    return {"name": name, "datatype": datatype_of(tensor), "shape": list(tensor.shape)}


def _size(tensor: InputTensor, *, left: int) -> int | None:
    """Return the bytes of a tensor behind the JSON, of which `left` are left; None if its data is in the JSON."""
    parameters = tensor.parameters or {}
    check_known(f"input {tensor.name!r}", parameters, BINARY_SIZE)
    size: object = parameters.get(BINARY_SIZE)
    if size is None:
        return None
    if tensor.data is not None or type(size) is not int or not 0 <= size <= left:
        raise InputError(
            f"input {tensor.name!r} has {BINARY_SIZE} {size}: it takes no data, and as many bytes behind the "
            f"JSON, where {left} are left"
        )
    return size


def _listed(tensor: InputTensor) -> list[Any]:
    """Return the values of a tensor in JSON, each by itself or in a list of its own."""
    if tensor.data is None:
        raise InputError(f"input {tensor.name!r} has neither data nor {BINARY_SIZE}")
    return [item[0] if isinstance(item, list) and len(item) == 1 else item for item in tensor.data]


def _texts(tensor: InputTensor) -> list[str]:
    texts = _listed(tensor)
    for item in texts:
        if not isinstance(item, str):
            raise InputError(f"input {tensor.name!r} has {type(item).__name__} in its data: send strings")
    return texts
