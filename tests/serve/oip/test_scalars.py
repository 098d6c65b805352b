import math
import struct
from typing import Any

import numpy as np
import pytest

from serve.errors import InputError
from serve.oip.scalars import SCALARS, read_values, single_value


@pytest.mark.parametrize(
    ("datatype", "data", "value"),
    [
        ("BYTES", struct.pack("<I", 2) + b"ab", "ab"),
        ("BOOL", b"\x01", True),
        ("INT32", struct.pack("<i", -3), -3),
        ("UINT64", struct.pack("<Q", 2**63), 2**63),
        ("FP32", struct.pack("<f", 0.5), 0.5),
        ("FP64", struct.pack("<d", 0.1), 0.1),
    ],
)
def test_a_value_is_read_from_its_bytes(datatype: str, data: bytes, value: object) -> None:
    found = single_value("top_k", datatype, [1, 1], read_values("top_k", datatype, data))
    assert (found, type(found)) == (value, type(value))


def test_types_have_the_sizes_of_their_names() -> None:
    for name, scalar in SCALARS.items():
        bits = name.lstrip("UINTFP")
        if bits.isdigit():
            assert np.dtype(scalar.dtype).itemsize * 8 == int(bits)


@pytest.mark.parametrize(
    ("datatype", "shape", "values", "message"),
    [
        ("FP16", [1], [1.0], "input 'top_k' is of FP16: a parameter is of BYTES, BOOL, INT8"),
        ("INT32", [2], [1, 2], "input 'top_k' is a parameter: send one value, in shape (1,) or (1, 1)"),
        ("INT32", [1], [], "send one value"),
        ("INT32", [], [1], "send one value"),
        ("INT32", [1, 1, 1], [1], "send one value"),
        ("INT32", [1], [1.5], "input 'top_k' is 1.5: that is not of INT32"),
        ("INT32", [1], [True], "input 'top_k' is True: that is not of INT32"),
        ("BOOL", [1], [1], "input 'top_k' is 1: that is not of BOOL"),
        ("INT8", [1], [300], "input 'top_k' is 300: that is not of INT8"),
        ("INT8", [1], [-129], "input 'top_k' is -129: that is not of INT8"),
        ("UINT8", [1], [-1], "input 'top_k' is -1: that is not of UINT8"),
        ("UINT64", [1], [2**64], "that is not of UINT64"),
        ("FP32", [1], [1e39], "input 'top_k' is 1e+39: that is not of FP32"),
        ("FP64", [1], [10**309], "that is not of FP64"),
        ("BYTES", [1], ["x", "y"], "send one value"),
    ],
)
def test_what_is_no_value_is_refused(datatype: str, shape: list[int], values: list[Any], message: str) -> None:
    with pytest.raises(InputError) as error:
        single_value("top_k", datatype, shape, values)
    assert message in str(error.value)


@pytest.mark.parametrize(
    ("datatype", "value"),
    [("INT8", -128), ("UINT8", 255), ("INT64", -(2**63)), ("FP32", 3e38), ("FP32", -math.inf), ("FP64", 1e308)],
)
def test_values_at_the_ends_of_a_type_are_of_it(datatype: str, value: float) -> None:
    assert single_value("top_k", datatype, [1], [value]) == value


@pytest.mark.parametrize(("datatype", "data"), [("INT32", b"abc"), ("BYTES", b"\x04\x00\x00\x00a"), ("FP64", b"abcd")])
def test_bytes_that_are_cut_short_are_refused(datatype: str, data: bytes) -> None:
    with pytest.raises(InputError, match="input 'top_k' is cut short"):
        read_values("top_k", datatype, data)
