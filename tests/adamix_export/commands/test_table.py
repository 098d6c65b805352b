import json
from collections.abc import Callable
from pathlib import Path

import pytest

from adamix_export.commands.table import COMMANDS
from tests.adamix_export.conftest import Export

Command = Callable[..., None]


@pytest.mark.parametrize("name", COMMANDS)
def test_help_shows_how_a_command_is_used(name: str, command: Command, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        command(name, "--help")
    text = capsys.readouterr().out
    assert f"examples:\n  adamix-export {name} bundles/" in text


def test_a_bundle_is_inspected_verified_and_converted(
    command: Command, export: Export, lora: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    export("merged", lora)
    bundle = tmp_path / "out"
    command("inspect", bundle, "--json")
    assert json.loads(capsys.readouterr().out)["graphs"][0]["ops"]["com.microsoft.MultiHeadAttention"] == 1
    command("verify", bundle, "--against", lora, "--parity-rows", "8", "--json")
    assert json.loads(capsys.readouterr().out)["parity"]["lora"]["rows"] == 12
    command("convert", bundle, tmp_path / "peft", "--to", "peft")
    assert capsys.readouterr().out.startswith(f"wrote {tmp_path / 'peft'} (peft)\n")
    with pytest.raises(SystemExit, match=r"adamix-export convert: .* exists: give another folder, or --force"):
        command("convert", bundle, tmp_path / "peft", "--to", "peft")
    command("convert", bundle, tmp_path / "peft", "--to", "peft", "--force", "--json")
    assert json.loads(capsys.readouterr().out)["target"] == "peft"
