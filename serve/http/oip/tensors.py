"""Tensors of the Open Inference Protocol, in JSON and in its binary form.

In the binary form an element of BYTES is its length, four bytes with the lowest first, and then its bytes; numbers are
laid out row by row with their lowest byte first.
"""

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from serve.errors import InputError
from serve.http.oip.messages import InputTensor

BYTES, FP32 = "BYTES", "FP32"
BINARY_SIZE = "binary_data_size"
LENGTH = 4
"""Bytes of an element's length."""
Tensor = NDArray[Any]
"""Texts (dtype object) or numbers (dtype float32)."""


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
        if tensor.datatype != BYTES:
            raise InputError(f"input {tensor.name!r} is of {tensor.datatype}: texts are of BYTES")
        size = tensor.parameters.get(BINARY_SIZE)
        if size is None:
            texts = _of_json(tensor)
        else:
            if tensor.data is not None or type(size) is not int or not 0 <= size <= len(binary) - start:
                raise InputError(
                    f"input {tensor.name!r} has {BINARY_SIZE} {size}: it takes no data, and as many bytes behind the "
                    f"JSON, where {len(binary) - start} are left"
                )
            texts = _of_bytes(tensor.name, binary[start : start + size])
            start += size
        if len(texts) != _count(tensor):
            raise InputError(f"input {tensor.name!r} has {len(texts)} texts, but its shape is {tensor.shape}")
        found[tensor.name] = texts
    if start != len(binary):
        raise InputError(f"{len(binary) - start} bytes behind the JSON belong to no input: say their {BINARY_SIZE}")
    return found


def json_output(name: str, tensor: Tensor) -> dict[str, Any]:
    """Return an output with its data in JSON."""
    return {**_described(name, tensor), "data": tensor.ravel().tolist()}


def binary_output(name: str, tensor: Tensor) -> tuple[dict[str, Any], bytes]:
    """Return an output with the size of its data, and the data."""
    data = _texts_as_bytes(tensor) if tensor.dtype == object else tensor.astype("<f4").tobytes()
    return {**_described(name, tensor), "parameters": {BINARY_SIZE: len(data)}}, data


def _described(name: str, tensor: Tensor) -> dict[str, Any]:
    return {"name": name, "datatype": BYTES if tensor.dtype == object else FP32, "shape": list(tensor.shape)}


def _texts_as_bytes(tensor: Tensor) -> bytes:
    texts = [text.encode() for text in tensor.ravel()]
    return b"".join(len(text).to_bytes(LENGTH, "little") + text for text in texts)


def _count(tensor: InputTensor) -> int:
    """Return the number of rows; Triton's batches of single elements are rows as well.

    Raises:
        InputError: The shape is neither (rows,) nor (rows, 1).
    """
    match tensor.shape:
        case [rows] | [rows, 1] if rows >= 0:
            return rows
    raise InputError(f"input {tensor.name!r} has shape {tensor.shape}: give (rows,) or (rows, 1)")


def _of_json(tensor: InputTensor) -> list[str]:
    if tensor.data is None:
        raise InputError(f"input {tensor.name!r} has neither data nor {BINARY_SIZE}")
    texts = [item[0] if isinstance(item, list) and len(item) == 1 else item for item in tensor.data]
    if wrong := next((item for item in texts if not isinstance(item, str)), None):
        raise InputError(f"input {tensor.name!r} has {type(wrong).__name__} in its data: send strings")
    return texts


def _of_bytes(name: str, data: bytes) -> list[str]:
    try:
        return [element.decode() for element in _elements(data)]
    except UnicodeDecodeError as error:
        raise InputError(f"input {name!r} has bytes that are not UTF-8: {error.reason}") from error
    except EOFError as error:
        raise InputError(f"input {name!r} is cut short: an element is longer than the bytes that are left") from error


def _elements(data: bytes) -> Iterator[bytes]:
    """Yield the elements of a BYTES tensor; EOFError if they do not fill the data."""
    start = 0
    while start < len(data):
        begin = start + LENGTH
        start = begin + int.from_bytes(data[start:begin], "little")
        if start > len(data) or begin > len(data):
            raise EOFError
        yield data[begin:start]


def texts_of(values: Sequence[str]) -> Tensor:
    """Return a tensor of texts (len(values),)."""
    tensor = np.empty(len(values), object)
    tensor[:] = values
    return tensor
