"""Elements of BYTES tensors: texts.

In binary form an element is its length, four bytes with the lowest first, and then its bytes.
"""

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from serve.errors import InputError

BYTES, FP32 = "BYTES", "FP32"
LENGTH = 4
"""Bytes of an element's length."""
Tensor = NDArray[Any]
"""Texts (dtype object) or numbers (dtype float32)."""


def datatype_of(tensor: Tensor) -> str:
    """Return a tensor's datatype, by the protocol's name."""
    return BYTES if tensor.dtype == object else FP32


def tensor_of(texts: Sequence[str]) -> Tensor:
    """Return a tensor of texts (len(texts),)."""
    tensor = np.empty(len(texts), object)
    tensor[:] = texts
    return tensor


def check_rows(name: str, datatype: str, shape: Sequence[int], texts: Sequence[str]) -> None:
    """Raise an InputError unless an input is of BYTES, and its shape (rows,) or (rows, 1) is that of its texts."""
    if datatype != BYTES:
        raise InputError(f"input {name!r} is of {datatype}: texts are of {BYTES}")
    if not (len(shape) == 1 or (len(shape) == 2 and shape[1] == 1)) or shape[0] < 0:
        raise InputError(f"input {name!r} has shape {list(shape)}: give (rows,) or (rows, 1)")
    if shape[0] != len(texts):
        raise InputError(f"input {name!r} has {len(texts)} texts, but its shape is {list(shape)}")


def decoded(name: str, elements: Sequence[bytes]) -> list[str]:
    """Return the texts of an input; raise an InputError if one is no UTF-8."""
    try:
        return [element.decode() for element in elements]
    except UnicodeDecodeError as error:
        raise InputError(f"input {name!r} has bytes that are not UTF-8: {error.reason}") from error


def read_elements(name: str, data: bytes) -> list[str]:
    """Return the texts of an input in binary form; raise an InputError if it is cut short or no UTF-8."""
    try:
        return decoded(name, list(_elements(data)))
    except EOFError as error:
        raise InputError(f"input {name!r} is cut short: an element is longer than the bytes that are left") from error


def as_bytes(tensor: Tensor) -> bytes:
    """Return the binary form of a tensor: elements, or numbers row by row with their lowest byte first."""
    if datatype_of(tensor) == FP32:
        return tensor.astype("<f4").tobytes()
    texts = [text.encode() for text in tensor.ravel()]
    return b"".join(len(text).to_bytes(LENGTH, "little") + text for text in texts)


def _elements(data: bytes) -> Iterator[bytes]:
    """Yield the elements of a tensor; EOFError if they do not fill the data."""
    start = 0
    while start < len(data):
        begin = start + LENGTH
        start = begin + int.from_bytes(data[start:begin], "little")
        if start > len(data) or begin > len(data):
            raise EOFError
        yield data[begin:start]
