"""Tensors of one value, which Triton's clients send for parameters."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from serve.errors import InputError, shortened
from serve.oip.elements import BYTES, read_elements

MAX_QUOTED = 64
"""Characters of a value that an error quotes."""


@dataclass(frozen=True)
class Scalar:
    """A datatype of the protocol."""

    dtype: str
    """Type in numpy's notation, in binary form; empty for texts."""
    kinds: tuple[type, ...]
    """Types of a value in JSON."""
    contents: str
    """Field of a tensor's contents over gRPC."""


SCALARS: dict[str, Scalar] = {
    BYTES: Scalar("", (str,), "bytes_contents"),
    "BOOL": Scalar("?", (bool,), "bool_contents"),
    "INT8": Scalar("<i1", (int,), "int_contents"),
    "INT16": Scalar("<i2", (int,), "int_contents"),
    "INT32": Scalar("<i4", (int,), "int_contents"),
    "INT64": Scalar("<i8", (int,), "int64_contents"),
    "UINT8": Scalar("<u1", (int,), "uint_contents"),
    "UINT16": Scalar("<u2", (int,), "uint_contents"),
    "UINT32": Scalar("<u4", (int,), "uint_contents"),
    "UINT64": Scalar("<u8", (int,), "uint64_contents"),
    "FP32": Scalar("<f4", (float, int), "fp32_contents"),
    "FP64": Scalar("<f8", (float, int), "fp64_contents"),
}
"""Datatypes of parameters, by the protocol's names."""


def scalar_type(name: str, datatype: str) -> Scalar:
    """Return a datatype; raise an InputError if no parameter can have it."""
    if datatype not in SCALARS:
        raise InputError(
            f"input {name!r} is of {shortened(datatype, MAX_QUOTED)}: a parameter is of {', '.join(SCALARS)}"
        )
    return SCALARS[datatype]


def read_values(name: str, datatype: str, data: bytes) -> list[Any]:
    """Return the values of a tensor in binary form; raise an InputError if it is cut short, or no UTF-8."""
    dtype = scalar_type(name, datatype).dtype
    if not dtype:
        return read_elements(name, data)
    if len(data) % np.dtype(dtype).itemsize:
        raise InputError(f"input {name!r} is cut short: it has {len(data)} bytes of {datatype}")
    values: list[Any] = np.frombuffer(data, dtype).tolist()
    return values


def single_value(name: str, datatype: str, shape: Sequence[int], values: Sequence[Any]) -> Any:
    """Return the value of a tensor; raise an InputError unless it is one, of the datatype, in shape (1,) or (1, 1)."""
    kinds = scalar_type(name, datatype).kinds
    if list(shape) not in ([1], [1, 1]) or len(values) != 1:
        raise InputError(f"input {name!r} is a parameter: send one value, in shape (1,) or (1, 1)")
    if type(values[0]) not in kinds or not _in_range(values[0], SCALARS[datatype].dtype):
        raise InputError(f"input {name!r} is {shortened(repr(values[0]), MAX_QUOTED)}: that is not of {datatype}")
    return values[0]


def _in_range(value: Any, dtype: str) -> bool:
    """Return whether a type can hold a value; infinity and NaN are of every type of floats."""
    kind = np.dtype(dtype or "O").kind
    if kind in "iu":
        return bool(np.iinfo(dtype).min <= value <= np.iinfo(dtype).max)
    return kind != "f" or not abs(value) > float(np.finfo(dtype).max) or value in (math.inf, -math.inf)
