"""A job that is stopped goes on, and writes what an undisturbed run writes."""

import json
import random
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from adamix_predict.job import Job
from adamix_predict.predict import predict
from adamix_predict.predictors import LabelPredictor
from adamix_train.errors import AdaMixError, DataError, RecipeError
from tests.serve.conftest import Reference, reference, write_bundle

__all__ = ["reference"]
ROWS = 5000
WORDS = ["good", "very bad", "the bill is late", "good good bad"]


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory, reference: Reference) -> Path:
    return write_bundle(tmp_path_factory.mktemp("journal") / "bundle", reference, ["tone", "intent"])


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Rows with labels, of which a few are blank or name no adapter."""
    chosen = random.Random(0)
    rows = []
    for number in range(ROWS):
        text = " ".join(chosen.choices(WORDS, k=chosen.randrange(1, 4)))
        adapter = chosen.choice(["tone", "tone", "mood"]) if number % 100 == 0 else "tone"
        rows.append({"text": "" if number % 700 == 0 else text, "adapter": adapter, "label": "positive"})
    written = tmp_path_factory.mktemp("rows") / "in.jsonl"
    written.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return written


@pytest.fixture
def job(bundle: Path, file: Path, tmp_path: Path) -> Callable[..., Job]:
    def make(name: str = "out.csv", **fields: Any) -> Job:
        given = {"adapter_column": "adapter", "label_column": "label", "keep_bad_rows": True, "resume": True, **fields}
        return Job(**{"bundle": bundle, "file": file, "out": tmp_path / name, **given})

    return make


def stop_after(calls: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the classifier fail, as by a full disk, at a later call."""
    left, before = [calls], LabelPredictor.__call__

    def call(self: Any, *given: Any) -> Any:
        left[0] -= 1
        if left[0] < 0:
            raise OSError("stopped")
        return before(self, *given)

    monkeypatch.setattr(LabelPredictor, "__call__", call)


def run(job: Job) -> dict[str, Any]:
    found = predict(job, provider="cpu", threads=1, cache=None).as_dict()
    return {name: value for name, value in found.items() if "seconds" not in name and "per_second" not in name}


def stopped(asked: Job, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Run a job that stops after two chunks, and return its journal."""
    with monkeypatch.context() as patched:
        stop_after(2, patched)
        with pytest.raises(OSError, match="stopped"):
            run(asked)
    assert asked.out is not None
    return asked.out.with_name(f"{asked.out.name}.journal")


@pytest.mark.parametrize("name", ["out.csv", "out.jsonl"])
def test_a_stopped_job_goes_on(job: Callable[..., Job], name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = job("whole" + name[3:], resume=False)
    expected = run(whole)
    assert expected["rows"] == ROWS and expected["bad_rows"] > 8 and expected["metrics"]["tone"]["rows"] > 4000
    asked = job(name)
    assert asked.out is not None and whole.out is not None
    journal = stopped(asked, monkeypatch)
    assert not asked.out.exists() and journal.exists()
    kept = len(journal.read_text().splitlines()) - 1
    assert kept == 2
    with journal.open("a") as stream:
        stream.write('[{"label": "posi')  # a line that a crash has cut
    calls: list[int] = []
    before = LabelPredictor.__call__
    monkeypatch.setattr(
        LabelPredictor, "__call__", lambda self, *given: calls.append(len(given[0])) or before(self, *given)
    )
    assert run(asked) == expected, "metrics and counts are those of the whole file"
    assert ROWS - kept * 1024 - 60 < sum(calls) <= ROWS - kept * 1024, "without those of the chunks that were kept"
    assert asked.out.read_bytes() == whole.out.read_bytes()
    assert not journal.exists()


def test_a_journal_of_another_job_is_refused_and_kept(job: Callable[..., Job], monkeypatch: pytest.MonkeyPatch) -> None:
    asked = job()
    assert asked.out is not None
    journal = stopped(asked, monkeypatch)
    before = journal.read_bytes()
    with pytest.raises(DataError, match="journal of another job, with another scores: repeat that one, or remove"):
        run(job(scores=True))
    other = asked.out.with_name("in.jsonl")
    other.write_text('{"text": "good", "adapter": "tone", "label": "positive"}\n')
    with pytest.raises(DataError, match="with another file"):
        run(job(file=other))
    assert journal.read_bytes() == before
    run(job(resume=False, force=True))
    assert journal.exists(), "a job that is not resumed leaves it alone"
    run(job(force=True))
    assert not journal.exists()


@pytest.mark.parametrize("chunk", ["[]", "[1, 2]"])
def test_a_chunk_of_other_rows_is_refused(chunk: str, job: Callable[..., Job], monkeypatch: pytest.MonkeyPatch) -> None:
    asked = job()
    assert asked.out is not None
    journal = stopped(asked, monkeypatch)
    identity, *_ = journal.read_text().splitlines()
    journal.write_text(f"{identity}\n{chunk}\n")
    with pytest.raises(DataError, match=r"the journal has other rows than .* from line 1 on: remove the journal"):
        run(asked)


def test_resuming_needs_a_file(job: Callable[..., Job]) -> None:
    with pytest.raises(RecipeError, match="--resume goes on with a file: add --out FILE"):
        job(out=None)


def test_a_row_that_cannot_be_predicted_still_ends_the_job(job: Callable[..., Job]) -> None:
    with pytest.raises(AdaMixError, match="the text of line 1 is empty"):
        run(job(keep_bad_rows=False))


@pytest.mark.slow
def test_a_killed_job_goes_on(job: Callable[..., Job], bundle: Path, file: Path, tmp_path: Path) -> None:
    """`kill -9` at random moments: the output is that of an undisturbed run."""
    long = tmp_path / "long.jsonl"
    long.write_text(file.read_text() * 4)
    run(job("whole.csv", file=long, resume=False))
    out, chosen = tmp_path / "out.csv", random.Random(1)
    journal = out.with_name("out.csv.journal")
    columns = ["--adapter-column", "adapter", "--label-column", "label", "--bad-rows", "keep"]
    command = [sys.executable, "-m", "adamix_predict.cli", bundle, long, *columns, "--no-cache", "--threads", "1"]
    killed = 0
    while not out.exists():
        process = subprocess.Popen([*map(str, command), "--resume", "--out", str(out)], stderr=subprocess.PIPE)
        lines = len(journal.read_bytes().splitlines()) if journal.exists() else 0
        target = lines + chosen.randrange(1, 6) if killed < 5 else 10**9
        while process.poll() is None and (not journal.exists() or len(journal.read_bytes().splitlines()) < target):
            time.sleep(0.005)
        time.sleep(chosen.random() * 0.02)
        if process.poll() is None:
            process.kill()
            killed += 1
        process.communicate()
    assert killed >= 3
    assert out.read_bytes() == (tmp_path / "whole.csv").read_bytes()
    assert not journal.exists()
