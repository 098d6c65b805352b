import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks.peers import HERE
from benchmarks.peers.answering import decoder_arguments

PROGRAM = f"""
import os, sys
sys.path.insert(0, {str(HERE)!r})
from answering import answer_once_made

def make():
    print("what Python says")
    os.write(1, b"what a C library says")
    return do

def do(job):
    print("what Python says")
    os.write(1, b"what a C library says")
    return [2 * job["number"]]

answer_once_made(make)
"""


def test_only_answers_are_on_stdout_and_the_end_of_the_jobs_ends_it() -> None:
    jobs = '{"number": 1}\n{"number": 2}\n'
    result = subprocess.run([sys.executable, "-c", PROGRAM], input=jobs, capture_output=True, text=True)
    assert result.returncode == 0
    assert result.stdout == '"ready"\n[2]\n[4]\n'
    assert result.stderr.count("what Python says") == result.stderr.count("what a C library says") == 3


@pytest.mark.parametrize(
    ("argv", "precision", "adapters"),
    [
        (["model"], None, None),
        (["model", "f32"], "f32", None),
        (["model", "--adapters", "some"], None, Path("some")),
        (["model", "f32", "--adapters", "some"], "f32", Path("some")),
    ],
)
def test_a_decoder_may_have_a_precision_and_adapters(
    argv: list[str], precision: str | None, adapters: Path | None
) -> None:
    assert decoder_arguments(argv) == {"folder": "model", "precision": precision, "adapters": adapters}
