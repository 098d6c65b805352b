import json
from pathlib import Path
from typing import Any

import pytest

from benchmarks.gpu import __main__ as command
from benchmarks.gpu.parts import PARTS
from benchmarks.gpu.results import Results
from benchmarks.gpu.setting import Setting
from benchmarks.support.errors import BenchmarkError

DONE = {"state": "done", "seconds": 1.0, "card": "none", "rows": [], "notes": [], "absent": [], "versions": {}}


@pytest.fixture
def begun(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Parts that were begun; each is done at once."""
    names: list[str] = []

    def run_parts(parts: Any, setting: Setting, *, seconds: float) -> Any:
        for part in parts:
            names.append(part.name)
            yield part, dict(DONE)

    monkeypatch.setattr(command, "run_parts", run_parts)
    return names


def test_parts_are_run_once_and_again_when_they_are_named(
    tmp_path: Path, begun: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(command, "missing_bundles", lambda setting: [])
    options = ["--from", str(tmp_path), "--provider", "cpu"]
    command.main([*options, "--parts", "banks,ceilings"])
    assert begun == ["ceilings", "banks"]
    begun.clear()
    command.main(options)
    assert begun == [name for name in PARTS if name not in ("ceilings", "banks")]
    begun.clear()
    command.main([*options, "--parts", "banks"])
    assert begun == ["banks"]
    assert list(json.loads((tmp_path / "gpu.json").read_text())["parts"]) == list(PARTS)
    assert "REHEARSAL" in capsys.readouterr().out


def test_bundles_that_a_former_machine_had_are_made_again(tmp_path: Path, begun: list[str]) -> None:
    options = ["--from", str(tmp_path), "--provider", "cpu"]
    command.main(options)
    begun.clear()
    command.main(options)
    assert begun == ["shapes"]


def test_with_json_on_stdout_there_is_nothing_else_on_it(
    tmp_path: Path, begun: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    command.main(["--from", str(tmp_path), "--provider", "cpu", "--parts", "ceilings", "--json", "-"])
    captured = capsys.readouterr()
    assert json.loads(captured.out)["provider"] == "cpu"
    assert "# GPU: none" in captured.err


def test_a_part_that_failed_or_was_not_begun_is_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def run_parts(parts: Any, setting: Setting, *, seconds: float) -> Any:
        yield parts[0], {"state": "failed", "seconds": 1.0, "error": "it ended with 1: no"}

    monkeypatch.setattr(command, "run_parts", run_parts)
    with pytest.raises(SystemExit, match=r"failed: ceilings\. not begun: banks\. "):
        command.main(["--from", str(tmp_path), "--provider", "cpu", "--parts", "ceilings,banks"])


def test_bad_input_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(SystemExit, match=r"there is no folder .*: write it with --prepare"):
        command.main(["--from", str(tmp_path / "none")])
    with pytest.raises(SystemExit, match="there is no part 'bank'; there are ceilings, "):
        command.main(["--from", str(tmp_path), "--parts", "bank"])


def test_what_failed_is_run_again() -> None:
    results = Results(setting=Setting(folder=Path(), provider="cpu"), command="", parts={})
    results.parts = {"ceilings": dict(DONE), "tests": {"state": "failed"}}
    assert command.chosen(None, results)[0] == "tests"
    with pytest.raises(BenchmarkError):
        command.chosen("", results)
