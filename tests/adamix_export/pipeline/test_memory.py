from pathlib import Path

import pytest

from adamix_export.checkpoint.checkpoint import open_checkpoint
from adamix_export.pipeline import export
from adamix_export.pipeline.bundle_parts import BundleBuild, write_model
from adamix_export.pipeline.memory import release_memory
from adamix_export.pipeline.options import Options

MAPS = Path("/proc/self/maps")


@pytest.mark.slow
@pytest.mark.skipif(not MAPS.exists(), reason="the system does not tell which files are mapped")
@pytest.mark.parametrize("shape", ["merged", "bank"])
def test_the_base_leaves_memory_once_its_graph_is_written(
    shape: str, houlsby: Path, tiny_base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    mapped = {}

    def traced(build: BundleBuild) -> None:
        write_model(build)
        mapped["traced"] = str(tiny_base) in MAPS.read_text()
        release_memory()
        mapped["released"] = str(tiny_base) in MAPS.read_text()

    monkeypatch.setattr(export, "write_model", traced)
    checkpoint = open_checkpoint(str(houlsby))
    export.EXPORTS[shape]([checkpoint], tmp_path / "out", Options(), lambda stage: None)
    assert mapped == {"traced": True, "released": False}
