import argparse
import json
import os
import re
import signal
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

import pytest

from adamix_train import cli
from adamix_train.errors import DataError, Interrupted

ROOT = Path(__file__).parents[2]
TRAIN = [sys.executable, "-m", "adamix_train.cli"]


@pytest.mark.slow
def test_json_on_stdout_and_the_bar_on_stderr(tiny_base: Path, tiny_data: Path, tmp_path: Path) -> None:
    flags = ["--base", str(tiny_base), "--train-file", str(tiny_data), "--out", str(tmp_path / "run")]
    command = [*TRAIN, *flags, "--epochs", "1", "--max-length", "16", "--json"]
    result = subprocess.run(command, capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
    assert json.loads(result.stdout)["checkpoint"] == str(tmp_path / "run")
    assert "training: 100%" in result.stderr


def test_an_error_is_one_line_and_exit_code_one(tmp_path: Path) -> None:
    command = [*TRAIN, "--base", "b", "--train-file", str(tmp_path / "none.csv"), "--out", str(tmp_path / "run")]
    result = subprocess.run(command, capture_output=True, text=True)
    assert result.returncode == 1
    assert result.stderr.strip() == f"adamix-train: there is no data file {tmp_path / 'none.csv'}"


@pytest.mark.parametrize(
    ("error", "status"),
    [
        (KeyboardInterrupt(), 130),
        (Interrupted("stopped"), 130),
        (Interrupted("stopped", signal.SIGTERM), 143),
        (DataError("no"), 1),
    ],
)
def test_the_exit_status_tells_a_signal_from_an_error(
    error: BaseException, status: int, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def stopped(*_: object, **__: object) -> None:
        raise error

    monkeypatch.setattr(cli, "train", stopped)
    with pytest.raises(SystemExit) as end:
        cli.main(["--base", "b", "--out", "o"])
    assert (1 if isinstance(end.value.code, str) else end.value.code) == status
    assert "adamix-train" in (capsys.readouterr().err or str(end.value.code))


def test_the_version_is_the_packages(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as end:
        cli.main(["--version"])
    assert end.value.code == 0
    assert capsys.readouterr().out == f"adamix {version('adamix')}\n"


def test_help_begins_with_a_usage_of_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        cli.main(["--help"])
    assert capsys.readouterr().out.startswith(
        "usage: adamix-train [RECIPE] [--resume] [--json] [--FIELD VALUE ...]\n\n"
    )


HEAVY = ("torch", "transformers", "peft", "datasets", "accelerate", "numpy", "huggingface_hub")
IMPORTED = f"""
import sys
HEAVY = {HEAVY}
from adamix_train import cli
try:
    cli.main(sys.argv[1:])
except SystemExit as end:
    print(end)
print("imported:", *(name for name in HEAVY if name in sys.modules))
"""


@pytest.mark.parametrize(
    "arguments",
    [
        ["--help"],
        ["--kind", "prefix"],
        ["--base", "b", "--train-file", "none.csv", "--out", "o"],
        ["sweep", "--base", "b", "--train-file", "none.csv", "--out", "o"],
        ["--base", "b", "--train-file", "{data}", "--label-column", "topic", "--out", "o"],
        ["--base", "no/such/base", "--train-file", "{data}", "--out", "o"],
        ["--base", "b", "--out", "o", "--resume"],
    ],
)
def test_help_and_wrong_flags_or_files_import_nothing_heavy(
    arguments: list[str], tiny_data: Path, tmp_path: Path
) -> None:
    command = [sys.executable, "-c", IMPORTED, *(text.format(data=tiny_data) for text in arguments)]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    result = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, env=environment)
    assert result.stdout.splitlines()[-1].strip() == "imported:", result.stdout + result.stderr


def test_help_teaches() -> None:
    text = subprocess.run([*TRAIN, "--help"], capture_output=True, text=True).stdout
    assert "adamix-train recipe.yaml" in text
    assert "--consistency-weight" in text


def test_a_sweep_prints_mean_and_deviation(
    tiny_base: Path,
    tiny_data: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for name, value in cli.QUIET.items():
        monkeypatch.setenv(name, value)
    flags = ["--base", str(tiny_base), "--train-file", str(tiny_data), "--out", str(tmp_path / "sweep")]
    cli.main(["sweep", *flags, "--seeds", "2", "--epochs", "1", "--max-length", "16", "--report-to", "none"])
    printed = capsys.readouterr().out
    assert printed.startswith("2 seeds: 0, 1\n")
    assert re.search(r"accuracy  0\.\d{4} ± 0\.\d{4}", printed)
    assert "\n\nseed 1: " in printed, "advice"
    assert (tmp_path / "sweep" / "sweep.json").is_file()


@pytest.mark.parametrize(("text", "seeds"), [("3", [0, 1, 2]), ("7,4,7", [7, 4])])
def test_seeds_are_a_number_or_a_list(text: str, seeds: list[int]) -> None:
    assert cli._seeds(text) == seeds


@pytest.mark.parametrize("text", ["0", "-1,2", "many"])
def test_a_text_that_is_no_list_of_seeds_is_refused(text: str) -> None:
    with pytest.raises(argparse.ArgumentTypeError, match="neither a number of seeds above 0 nor a list"):
        cli._seeds(text)


def test_a_sweep_refuses_a_seed_of_its_own(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        cli.main(["sweep", "--base", "b", "--out", "o", "--seed", "3"])
    assert "a sweep takes --seeds, not --seed" in capsys.readouterr().err
