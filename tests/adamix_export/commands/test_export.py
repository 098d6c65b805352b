import json
from collections.abc import Callable
from pathlib import Path

import pytest

from adamix_export.checkpoint.module_weights import MODULE_WEIGHTS
from adamix_export.pipeline.export import EXPORTS
from adamix_export.pipeline.options import SHAPES
from adamix_train.recipe.recipe import COLLAPSES

pytestmark = pytest.mark.slow

Command = Callable[..., None]


def test_json_on_stdout_and_the_bar_on_stderr(
    command: Command, houlsby: Path, lora: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    command(houlsby, lora, tmp_path / "bank", "--json")
    shown = capsys.readouterr()
    report = json.loads(shown.out)
    assert (report["shape"], report["parity"].keys()) == ("bank", {"houlsby", "lora"})
    assert "tracing" in shown.err


def test_a_packed_graph_is_written_on_request(command: Command, houlsby: Path, tmp_path: Path) -> None:
    command(houlsby, tmp_path / "packed", "--packed")
    command(houlsby, tmp_path / "padded")
    assert [(tmp_path / name / "packed.onnx").is_file() for name in ("packed", "padded")] == [True, False]


def test_a_failed_parity_check_exits_with_one_line_and_leaves_nothing(
    command: Command, houlsby: Path, tmp_path: Path
) -> None:
    with pytest.raises(SystemExit, match=r"^adamix-export: houlsby: the exported graph does not agree with PyTorch"):
        command(houlsby, tmp_path / "out", "--tolerance", "0")
    assert list(tmp_path.iterdir()) == []


def test_one_argument_is_not_enough(command: Command, houlsby: Path) -> None:
    with pytest.raises(SystemExit, match="and then the folder to write"):
        command(houlsby)


def test_an_export_without_learned_weights_is_one_line(command: Command, houlsby: Path, tmp_path: Path) -> None:
    with pytest.raises(
        SystemExit, match=r"adamix-export: .* has no learned weights, all of its modules weigh the same"
    ):
        command(houlsby, tmp_path / "out", "--collapse", "learned")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(("old", "new"), [("mean", "uniform"), ("weights", "learned")])
def test_an_old_name_of_a_collapse_is_refused_by_the_new_one(
    old: str, new: str, command: Command, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit):
        command("run", "out", "--collapse", old)
    assert f"{old} is called {new} in this version" in capsys.readouterr().err


def test_a_number_of_rows_is_above_zero(command: Command, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        command("run", "out", "--parity-rows", "0")
    assert "--parity-rows: 0 is not a whole number above 0" in capsys.readouterr().err


def test_the_choices_of_the_flags_are_what_the_export_has() -> None:
    assert tuple(EXPORTS) == SHAPES
    assert tuple(MODULE_WEIGHTS) == COLLAPSES


def test_modules_that_are_kept_are_a_bank_and_are_shown(
    command: Command, houlsby: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    command(houlsby, tmp_path / "bank", "--keep-modules")
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].endswith("(bank, fp32)")
    shown = [line.split()[0] for line in lines if line.startswith("houlsby")]
    assert shown == ["houlsby", "houlsby.0", "houlsby.1", "houlsby.2"]
    command("inspect", tmp_path / "bank")
    found = [line.split() for line in capsys.readouterr().out.splitlines()]
    assert ["houlsby.1", "houlsby", "4", "1", "of", "3"] in [line[:6] for line in found]
    command("verify", tmp_path / "bank", "--against", f"houlsby.1={houlsby}")
    assert "houlsby.1" in capsys.readouterr().out
