"""Tensors of the Open Inference Protocol over HTTP: in JSON, or in binary form behind the JSON."""

from collections.abc import Sequence
from typing import Any

from serve.errors import InputError
from serve.http.oip.messages import InputTensor
from serve.oip.elements import Tensor, as_bytes, check_rows, datatype_of, read_elements

BINARY_SIZE = "binary_data_size"


def read_texts(inputs: Sequence[InputTensor], binary: bytes) -> dict[str, list[str]]:
    """Return the texts of each tensor by its name; `binary` has the data of those that have a size, in their order.

    Raises:
        InputError: A tensor comes twice, is not of BYTES, has another number of texts than its shape says, or has
            bytes that are cut short, too many, or no UTF-8.
    """
    found: dict[str, list[str]] = {}
    start = 0
    for tensor in inputs:
        if tensor.name in found:
            raise InputError(f"inputs has {tensor.name!r} twice")
        parameters = tensor.parameters or {}
        if unknown := next((name for name in parameters if name != BINARY_SIZE), None):
            raise InputError(f"input {tensor.name!r} has an unknown parameter {unknown!r}; known is {BINARY_SIZE}")
        size = parameters.get(BINARY_SIZE)
        if size is None:
            texts = _of_json(tensor)
        else:
            if tensor.data is not None or type(size) is not int or not 0 <= size <= len(binary) - start:
                raise InputError(
                    f"input {tensor.name!r} has {BINARY_SIZE} {size}: it takes no data, and as many bytes behind the "
                    f"JSON, where {len(binary) - start} are left"
                )
            texts = read_elements(tensor.name, binary[start : start + size])
            start += size
        check_rows(tensor.name, tensor.datatype, tensor.shape, texts)
        found[tensor.name] = texts
    if start != len(binary):
        raise InputError(f"{len(binary) - start} bytes behind the JSON belong to no input: say their {BINARY_SIZE}")
    return found


def json_output(name: str, tensor: Tensor) -> dict[str, Any]:
    """Return an output with its data in JSON."""
    return {**_described(name, tensor), "data": tensor.ravel().tolist()}


def binary_output(name: str, tensor: Tensor) -> tuple[dict[str, Any], bytes]:
    """Return an output with the size of its data, and the data."""
    data = as_bytes(tensor)
    return {**_described(name, tensor), "parameters": {BINARY_SIZE: len(data)}}, data


def _described(name: str, tensor: Tensor) -> dict[str, Any]:
    return {"name": name, "datatype": datatype_of(tensor), "shape": list(tensor.shape)}


def _of_json(tensor: InputTensor) -> list[str]:
    if tensor.data is None:
        raise InputError(f"input {tensor.name!r} has neither data nor {BINARY_SIZE}")
    texts = [item[0] if isinstance(item, list) and len(item) == 1 else item for item in tensor.data]
    if wrong := next((item for item in texts if not isinstance(item, str)), None):
        raise InputError(f"input {tensor.name!r} has {type(wrong).__name__} in its data: send strings")
    return texts
