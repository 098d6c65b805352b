import re

import pytest

from benchmarks.support import errors
from benchmarks.support.errors import BenchmarkError, PeerError
from benchmarks.support.harness import publish


def test_the_tree_in_the_docstring_names_every_error() -> None:
    drawn = set(re.findall(r"─ (\w+)", errors.__doc__ or ""))
    assert drawn == {kind.__name__ for kind in BenchmarkError.__subclasses__() if kind.__module__ == errors.__name__}


def test_an_error_that_nothing_catches_ends_the_benchmark_with_its_text() -> None:
    def measure() -> None:
        raise PeerError("it ended before it answered")

    with pytest.raises(SystemExit, match=r"^benchmarks\.fake: it ended before it answered$"):
        publish("fake", "fake", measure, json_to=None)  # type: ignore[arg-type, return-value]
