"""Contents of files and bodies that parsers get to see: what they know, damaged or combined anew, and anything else."""

import json
from collections.abc import Sequence
from typing import Any

from hypothesis import strategies as st

NUMBERS = st.sampled_from([0, -1, 1, 2**31, 2**63, 10**30, 10**400, 0.5, -1e30, 1e308, float("nan"), float("inf")])
TEXTS = st.sampled_from(["", "x", " ", "\0", "\ud800", "\u2028", "é", "🙂", "../..", "a" * 5000]) | st.text(max_size=12)
SCALARS = st.none() | st.booleans() | NUMBERS | st.integers() | st.floats() | TEXTS


def json_values(keys: Sequence[str] = ()) -> st.SearchStrategy[Any]:
    """Values of JSON whose objects have keys of these, or others."""
    names = (st.sampled_from(keys) | st.text(max_size=4)) if keys else st.text(max_size=4)
    return st.recursive(
        SCALARS, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(names, inner, max_size=4), max_leaves=12
    )


def objects(examples: Sequence[dict[str, Any]]) -> st.SearchStrategy[dict[str, Any]]:
    """Objects with some of the fields of examples, some of which have another value, and now and then a field more."""
    keys = sorted({key for example in examples for key in example})

    def changed(example: dict[str, Any], changes: dict[str, Any], dropped: list[str]) -> dict[str, Any]:
        return {key: value for key, value in {**example, **changes}.items() if key not in dropped}

    values = json_values(keys) | st.sampled_from([value for example in examples for value in example.values()])
    changes = st.dictionaries(st.sampled_from(keys) | st.text(max_size=8), values, max_size=3)
    return st.builds(changed, st.sampled_from(examples), changes, st.lists(st.sampled_from(keys), max_size=1))


def as_json(value: Any) -> bytes:
    """Return JSON; lone surrogates are escaped, numbers that are none are as Python writes them."""
    return json.dumps(value).encode("ascii")


def damaged(wholes: Sequence[bytes], pieces: Sequence[bytes] = ()) -> st.SearchStrategy[bytes]:
    """Contents with up to four parts replaced, left out or put in."""
    parts = st.binary(max_size=8) | st.sampled_from([*PIECES, *pieces])
    edit = st.tuples(st.integers(0, 10**6), st.integers(0, 40), parts)

    def apply(whole: bytes, edits: list[tuple[int, int, bytes]]) -> bytes:
        for place, length, part in edits:
            start = place % (len(whole) + 1)
            whole = whole[:start] + part + whole[start + length :]
        return whole

    return st.builds(apply, st.sampled_from(wholes), st.lists(edit, min_size=1, max_size=4))


PIECES = (
    *(b"", b"\0", b"\n", b"\r", b"\t", b'"', b"'", b"{", b"}", b"[", b"]", b":", b",", b"-", b"=", b"#", b"&a ", b"*a"),
    *(b"\xff", b"\xef\xbb\xbf", b"\xed\xa0\x80", b"\\ud800", b"\\u0000", b"1" * 5000, b"0x" + b"f" * 5000, b"1e999"),
    *(b"[" * 5000, b'{"a":' * 5000, b"- " * 5000, b"a: " * 2000, b"!!bool x", b'!!int ""', b"!!timestamp x"),
    *(b"!!binary x", b"!!python/object:os.system x", b"<<: 1", b"? [a]", b"nan", b".inf", b"null", b"1979-99-99"),
)
"""Parts that stand for something in one of the formats."""


def any_of(*strategies: st.SearchStrategy[bytes]) -> st.SearchStrategy[bytes]:
    """Return contents of any of these kinds, and now and then any bytes."""
    return st.one_of(*strategies, st.binary(max_size=64))
