"""The command over a bundle that is computed by hand."""

import contextlib
import csv
import fcntl
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from adamix_predict.cli import main
from adamix_predict.turn import only_job_of
from serve.classification.classifier import Classifier
from serve.generation.generator import Generator
from tests.fixtures.hand_computed_decoder import random_decoder, write_decoder_bundle
from tests.serve.conftest import LABELS, Reference, reference, write_bundle

__all__ = ["reference"]
TEXTS = ["good", "the bill is late", "very bad", "good good bad"]


@pytest.fixture
def bundle(tmp_path: Path, reference: Reference) -> Path:
    return write_bundle(tmp_path / "bundle", reference, list(LABELS))


def write(file: Path, lines: list[str]) -> Path:
    file.write_text("".join(line + "\n" for line in lines))
    return file


def predict(bundle: Path, file: Path, *flags: str) -> None:
    main([str(bundle), str(file), "--provider", "cpu", "--threads", "1", "--no-cache", *flags])


def failing(bundle: Path, file: Path, *flags: str) -> str:
    with pytest.raises(SystemExit) as ended:
        predict(bundle, file, *flags)
    assert isinstance(ended.value.code, str)
    return ended.value.code


def test_rows_are_those_of_the_file_with_the_engines_predictions(bundle: Path, tmp_path: Path) -> None:
    file = write(
        tmp_path / "in.csv",
        ["id,text,adapter", *(f"{n},{t},{'tone' if n % 2 else 'intent'}" for n, t in enumerate(TEXTS))],
    )
    predict(bundle, file, "--adapter-column", "adapter", "--out", str(tmp_path / "out.csv"))
    with (tmp_path / "out.csv").open() as stream:
        rows = list(csv.DictReader(stream))
    expected = Classifier(bundle, provider="cpu", threads=1)(TEXTS, adapter=["intent", "tone"] * 2)
    assert [(row["id"], row["text"]) for row in rows] == [(str(n), text) for n, text in enumerate(TEXTS)]
    assert [row["predicted_label"] for row in rows] == [one.label for one in expected]
    np.testing.assert_allclose(
        [float(row["predicted_score"]) for row in rows], [one.scores.max() for one in expected], rtol=1e-5
    )


def test_metrics_are_those_by_hand(bundle: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    labels = [one.label for one in Classifier(bundle, provider="cpu", threads=1)(TEXTS, adapter="tone")]
    wrong = {"negative": "positive", "positive": "negative"}
    file = write(tmp_path / "in.jsonl", [
        json.dumps({"text": text, "gold": wrong[label] if number == 0 else label})
        for number, (text, label) in enumerate(zip(TEXTS, labels, strict=True))
    ] + [json.dumps({"text": "good", "gold": ""})])  # fmt: skip
    predict(bundle, file, "--adapter", "tone", "--label-column", "gold", "--out", str(tmp_path / "out.jsonl"), "--json")
    found = json.loads(capsys.readouterr().out)
    assert (found["rows"], found["metrics"]["tone"]["rows"], found["metrics"]["tone"]["accuracy"]) == (5, 4, 0.75)


def test_without_a_file_rows_go_to_the_output_and_long_texts_are_counted(
    bundle: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = write(tmp_path / "in.tsv", ["text", "good", " ".join(["bad"] * 20)])
    predict(bundle, file, "--adapter", "grade")
    printed = capsys.readouterr()
    rows = [json.loads(line) for line in printed.out.splitlines()]
    assert [sorted(row) for row in rows] == [["predicted_score", "text"]] * 2
    assert "1 texts are longer than their adapter reads" in printed.err and "rows/s" in printed.err


def test_a_generator_gives_texts(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = write_decoder_bundle(tmp_path / "bundle", random_decoder())
    predict(folder, write(tmp_path / "in.csv", ["input", *TEXTS]), "--adapter", "north", "--max-new-tokens", "5")
    rows = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    expected = Generator(folder, provider="cpu", threads=1)(TEXTS, adapter="north", max_new_tokens=5)
    assert [(row["predicted_text"], row["predicted_finish_reason"]) for row in rows] == [
        (one.text, str(one.finish_reason)) for one in expected
    ]


@pytest.mark.parametrize(
    ("content", "flags", "message"),
    [
        (["text"], ["--adapter", "tone"], "has no rows"),
        (["message", "good"], ["--adapter", "tone"], "no column 'text' in line 2; its columns are message"),
        (["text", "good", '" "'], ["--adapter", "tone"], "the text of line 3 is empty; .* --bad-rows keep"),
        (["text", "good"], ["--adapter", "mood"], "no adapter 'mood' here; there are tone, intent"),
        (["text,to", "good,tone", "bad,mood"], ["--adapter-column", "to"], "line 3: there is no adapter 'mood'"),
        (["text,label", "good,1"], ["--adapter", "tone", "--label-column", "label"], "line 2: label '1' is none of"),
        (["text,predicted_label", "good,1"], ["--adapter", "tone"], "has a column 'predicted_label' itself"),
        (["text", "good"], ["--adapter", "tone", "--max-new-tokens", "3"], "--max-new-tokens means nothing"),
    ],
)  # fmt: skip
def test_an_error_says_what_to_do_and_leaves_the_file(
    bundle: Path, tmp_path: Path, content: list[str], flags: list[str], message: str
) -> None:
    out = write(tmp_path / "out.csv", ["as it was"])
    file = write(tmp_path / "in.csv", content)
    with pytest.raises(SystemExit, match=message):
        predict(bundle, file, *flags, "--out", str(out), "--force")
    assert out.read_text() == "as it was\n"
    assert sorted(one.name for one in tmp_path.iterdir()) == ["bundle", "in.csv", "out.csv"]


def test_files_are_neither_replaced_nor_of_an_unknown_kind(bundle: Path, tmp_path: Path) -> None:
    file = write(tmp_path / "in.csv", ["text", "good"])
    assert "is " in failing(bundle, file, "--out", str(file), "--force")
    assert "exists: give another file, or --force" in failing(bundle, file, "--out", str(write(tmp_path / "a.csv", [])))
    assert "ends in .xlsx; files are written as .csv" in failing(bundle, file, "--out", str(tmp_path / "a.xlsx"))


def test_bad_rows_are_kept_with_their_reason(bundle: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = write(tmp_path / "in.csv", ["text,to", "good,tone", "bad,mood", " ,tone", "late,tone"])
    predict(bundle, file, "--adapter-column", "to", "--bad-rows", "keep")
    rows = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [row["predicted_error"] is None for row in rows] == [True, False, False, True]
    assert "line 3: there is no adapter 'mood'" in rows[1]["predicted_error"]


@pytest.mark.parametrize(
    ("name", "lines", "reason"),
    [
        ("in.csv", ["text,id", "good,1", "bad", "late,3"], "line 3 has 1 fields, not 2"),
        ("in.csv", ["text,id", "good,1", "bad,2,3", "late,3"], "line 3 has 3 fields, not 2"),
        ("in.jsonl", ['{"text": "good", "id": "1"}', '{"text":', '{"text": "late", "id": "3"}'], "line 2 is not JSON"),
        ("in.jsonl", ['{"text": "good", "id": "1"}', '["bad"]', '{"text": "late"}'], "line 2 is not a JSON object"),
    ],
)
def test_a_line_that_is_malformed_is_kept_with_its_number_and_the_others_go_on(
    name: str, lines: list[str], reason: str, bundle: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = write(tmp_path / name, lines)
    assert reason in failing(bundle, file, "--adapter", "tone")
    capsys.readouterr()
    predict(bundle, file, "--adapter", "tone", "--bad-rows", "keep")
    rows = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    expected = Classifier(bundle, provider="cpu", threads=1)(["good", "late"], adapter="tone")
    assert [row["predicted_label"] for row in rows] == [expected[0].label, None, expected[1].label]
    assert reason in rows[1]["predicted_error"] and str(file) in rows[1]["predicted_error"]


def test_a_file_whose_first_line_is_malformed_is_predicted(
    bundle: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = write(tmp_path / "in.jsonl", ["{", '{"text": "good"}'])
    predict(bundle, file, "--adapter", "tone", "--bad-rows", "keep")
    rows = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [row["predicted_error"] is None for row in rows] == [False, True]


def test_nothing_is_written_into_the_bundle(bundle: Path, tmp_path: Path) -> None:
    file = write(tmp_path / "in.csv", ["text", "good"])
    inside = bundle / "adapters" / "out.csv"
    assert "lies in" in failing(bundle, file, "--adapter", "tone", "--out", str(inside))
    predict(bundle, file, "--adapter", "tone", "--out", str(tmp_path / "out.csv"))  # it still opens


def heed_interrupts() -> None:
    """Undo what a process inherits from tests that a shell runs in the background: it ignores interrupts."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


def test_a_closed_pipe_and_an_interrupt_are_quiet(bundle: Path, tmp_path: Path) -> None:
    file = write(tmp_path / "in.csv", ["text", *["the bill is very late"] * 200_000])
    command = [sys.executable, "-m", "adamix_predict.cli", str(bundle), str(file), "--adapter", "tone", "--no-cache"]
    piped = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env={**os.environ})
    assert piped.stdout is not None and piped.stderr is not None
    assert json.loads(piped.stdout.readline())["text"] == "the bill is very late"
    piped.stdout.close()
    assert (piped.wait(300), piped.stderr.read()) == (141, "")
    out = tmp_path / "out.csv"
    process = subprocess.Popen(
        [*command, "--out", str(out)], stderr=subprocess.PIPE, text=True, preexec_fn=heed_interrupts
    )
    while not out.with_name("out.csv.partial").exists():
        assert process.poll() is None
        time.sleep(0.01)
    process.send_signal(signal.SIGINT)
    _, printed = process.communicate(timeout=300)
    assert process.returncode == 130 and printed == "adamix-predict: interrupted; no file was written\n"
    assert not out.exists() and not out.with_name("out.csv.partial").exists()


@pytest.mark.parametrize("held", [False, True])
def test_an_interrupt_before_the_lock_leaves_nothing_but_what_another_job_holds(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, held: bool
) -> None:
    out = tmp_path / "out.csv"
    partial = out.with_name("out.csv.partial")
    lock = fcntl.flock

    def interrupted(*_: object) -> None:
        monkeypatch.setattr(fcntl, "flock", lock)
        raise KeyboardInterrupt

    with only_job_of(out) if held else contextlib.nullcontext():
        monkeypatch.setattr(fcntl, "flock", interrupted)
        with pytest.raises(KeyboardInterrupt), only_job_of(out):
            pass
        assert partial.exists() == held


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--predictors", "2"], "--predictors is for a cluster: add --ray ADDRESS"),
        (["--ray", ""], "--ray writes a folder: add --out FOLDER"),
        (["--ray", "local"], "--ray writes a folder: add --out FOLDER"),
        (["--ray", "local", "--out", "x", "--resume"], "--resume means nothing with --ray"),
        (["--out", "s3://bucket/x"], "s3://bucket/x is read and written by Ray Data alone: add --ray ADDRESS"),
    ],
)
def test_flags_of_a_cluster_are_checked(
    flags: list[str], message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit):
        main([str(tmp_path), str(tmp_path / "in.csv"), *flags])
    assert message in capsys.readouterr().err
