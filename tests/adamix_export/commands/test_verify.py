import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from tests.adamix_export.conftest import Export


def test_the_command_exits_with_one_line(
    command: Callable[..., None],
    export: Export,
    houlsby: Path,
    lora: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    export("bank", f"tone={houlsby}", f"start={lora}")
    command("verify", tmp_path / "out", "--json")
    assert json.loads(capsys.readouterr().out)["canaries"] == ["tone", "start"]
    data = tmp_path / "out" / "model.onnx.data"
    content = np.frombuffer(data.read_bytes(), np.uint8).copy()
    content[len(content) // 2] ^= 1
    data.write_bytes(content.tobytes())
    with pytest.raises(SystemExit) as stopped:
        command("verify", tmp_path / "out")
    assert stopped.value.code == (
        f"adamix-export verify: {data} is damaged: its sha256 does not match; export or copy it again"
    )
    assert capsys.readouterr().out == ""
