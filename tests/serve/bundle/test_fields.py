from dataclasses import dataclass, field
from typing import Annotated, Any

import pytest

from serve.bundle.fields import Bounds, read_fields, read_value
from serve.errors import BundleError


@dataclass(frozen=True)
class Inner:
    size: Annotated[int, Bounds(1, 9)]


@dataclass(frozen=True)
class Outer:
    name: str
    inner: list[Inner] = field(default_factory=list)
    share: Annotated[float, Bounds(0, 1)] | None = None
    facts: dict[str, Any] = field(default_factory=dict)


def test_objects_become_dataclasses() -> None:
    content = {"name": "a", "inner": [{"size": 1}, {"size": 9}], "share": 1, "facts": {"x": [None, {"y": True}]}}
    expected = Outer(name="a", inner=[Inner(1), Inner(9)], share=1, facts={"x": [None, {"y": True}]})
    assert read_fields(Outer, content, "file") == expected
    assert read_fields(Outer, {"name": "a"}, "file") == Outer("a")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ([], "^file is a list of 0 rather than an object"),
        ({}, "^file lacks the field name"),
        ({"name": "a", "colour": 1}, "^file has the unknown field 'colour'"),
        ({"name": 1}, "^file: name is 1: expected a text in valid Unicode"),
        ({"name": "\ud800"}, r"^file: name is '\\ud800': expected a text in valid Unicode"),
        ({"name": "a\0"}, "expected a text in valid Unicode"),
        ({"name": "a", "inner": {}}, "^file: inner is an object: expected a list"),
        ({"name": "a", "inner": [{"size": 0}]}, r"^file: inner\[0\]: size is 0: expected 1 to 9; export it again$"),
        ({"name": "a", "inner": [{"size": 1.0}]}, r"size is 1\.0: expected a whole number"),
        ({"name": "a", "inner": [{"size": 10**5000}]}, "size is a number of 16610 bits: expected 1 to 9"),
        ({"name": "a", "inner": [{"size": True}]}, "size is True: expected a whole number"),
        ({"name": "a", "inner": [1]}, r"^file: inner\[0\] is 1 rather than an object"),
        ({"name": "a", "share": 1.5}, r"^file: share is 1\.5: expected 0 to 1"),
        ({"name": "a", "share": float("nan")}, "^file: share is nan: expected a finite number or null"),
        ({"name": "a", "share": 10**400}, "^file: share is a number of 1329 bits: expected a finite number or null"),
        ({"name": "a", "facts": {"x": [float("inf")]}}, "^file: facts has inf in it, which is no finite number"),
        ({"name": "b" * 10**6, "inner": 1}, "^file: inner is 1: expected a list"),
    ],
)
def test_what_does_not_fit_is_named_in_one_short_line(content: object, message: str) -> None:
    with pytest.raises(BundleError, match=message) as error:
        read_fields(Outer, content, "file")
    assert "\n" not in str(error.value)
    assert len(str(error.value)) < 200


def test_a_length_has_bounds() -> None:
    assert read_value(Annotated[list[int], Bounds(1, 2)], [1, 2], "ids") == [1, 2]
    with pytest.raises(BundleError, match="ids has the length 3: expected 1 to 2"):
        read_value(Annotated[list[int], Bounds(1, 2)], [1, 2, 3], "ids")
