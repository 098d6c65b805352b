import json
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from adamix_export.cli import main
from adamix_export.commands.table import COMMANDS
from adamix_export.converters.table import TARGETS
from tests.adamix_export.conftest import Export


@pytest.fixture(autouse=True)
def signals() -> Iterator[None]:
    """Give the signals back that a command takes for itself."""
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


@pytest.mark.parametrize("name", COMMANDS)
def test_help_shows_how_a_command_is_used(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main([name, "--help"])
    text = capsys.readouterr().out
    assert f"examples:\n  adamix-export {name} bundles/" in text


def test_help_lists_every_format(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["convert", "--help"])
    text = capsys.readouterr().out
    assert all(target.what in text for target in TARGETS.values())


def test_a_bundle_is_looked_at_checked_and_converted(
    export: Export, lora: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    export("merged", lora)
    bundle = str(tmp_path / "out")
    main(["inspect", bundle, "--json"])
    assert json.loads(capsys.readouterr().out)["graphs"][0]["ops"]["com.microsoft.MultiHeadAttention"] == 1
    main(["verify", bundle, "--against", str(lora), "--parity-rows", "8", "--json"])
    assert json.loads(capsys.readouterr().out)["parity"]["lora"]["rows"] == 12
    main(["convert", bundle, str(tmp_path / "peft"), "--to", "peft"])
    assert capsys.readouterr().out.startswith(f"wrote {tmp_path / 'peft'} (peft)\n")
    with pytest.raises(SystemExit, match=r"adamix-export convert: .* exists: give another folder, or --force"):
        main(["convert", bundle, str(tmp_path / "peft"), "--to", "peft"])
    main(["convert", bundle, str(tmp_path / "peft"), "--to", "peft", "--force", "--json"])
    assert json.loads(capsys.readouterr().out)["target"] == "peft"


def test_an_export_without_learned_weights_is_one_line(houlsby: Path, tmp_path: Path) -> None:
    with pytest.raises(
        SystemExit, match=r"adamix-export: .* has no learned weights, all of its modules weigh the same"
    ):
        main([str(houlsby), str(tmp_path / "out"), "--collapse", "weights"])
    assert list(tmp_path.iterdir()) == []


def test_a_checkpoint_may_be_called_like_a_command(
    houlsby: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "inspect").symlink_to(houlsby)
    monkeypatch.chdir(tmp_path)
    main(["./inspect", "out", "--parity-rows", "4"])
    assert "wrote out (merged, fp32)" in capsys.readouterr().out
