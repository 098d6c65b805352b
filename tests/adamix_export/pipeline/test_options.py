from pathlib import Path

import pytest

from adamix_export.checkpoint.checkpoint import open_checkpoint
from adamix_export.errors import ExportError
from adamix_export.pipeline.export import EXPORTS
from adamix_export.pipeline.options import Options
from tests.fixtures.random_checkpoints import make_encoder, mixture


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_encoder(tmp_path_factory.mktemp("base"), "distilbert")


def test_slots_are_for_banks_and_not_negative(base: Path, tmp_path: Path) -> None:
    source = open_checkpoint(str(mixture(tmp_path / "run", base)))
    with pytest.raises(ExportError, match="slots is -1; it must not be negative"):
        Options(slots=-1)

    for shape in ("merged", "adapter"):
        with pytest.raises(ExportError, match=f"shape {shape} has no slots: spare ones are for shape bank"):
            EXPORTS[shape]([source], tmp_path / "out", Options(slots=1), lambda stage: None)
