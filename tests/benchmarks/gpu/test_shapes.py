from pathlib import Path

import pytest

from benchmarks.gpu import shapes
from benchmarks.gpu.models import bundles_of
from benchmarks.gpu.setting import Setting


class Here:
    """A pool that works where it is."""

    def __init__(self, *_: object) -> None:
        pass

    def __enter__(self) -> "Here":
        return self

    def __exit__(self, *_: object) -> None:
        pass

    map = staticmethod(map)


@pytest.mark.parametrize("there", [[], ["smollm2-bank", "smollm2-merged"]])
def test_bases_are_made_once_and_before_their_bundles(
    there: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made: list[str] = []
    setting = Setting(folder=tmp_path, provider="cpu", tiny=True)
    for name in there:
        setting.bundle(name).mkdir(parents=True)
    monkeypatch.setattr(shapes, "ProcessPoolExecutor", Here)
    monkeypatch.setattr(shapes, "make_weights", lambda model, base: made.append(base.name))
    monkeypatch.setattr(shapes, "make_bundle", lambda name, setting: made.append(name))
    outcome = shapes.make_shapes(setting)
    bundles = [name for name in bundles_of(prepared=False) if name not in there]
    bases = list(dict.fromkeys(name.rpartition("-")[0] for name in bundles))
    assert made == [*bases, *bundles]
    assert [row["made"] for row in outcome.rows] == made
