from pathlib import Path

import pytest

from benchmarks.gpu.setting import PACES, TINY_PACE, Setting, setting_of
from benchmarks.support.errors import BenchmarkError


def test_a_setting_survives_the_way_to_another_process() -> None:
    setting = Setting(folder=Path("/some/where"), provider="cuda", tiny=True)
    assert setting_of(setting.as_dict()) == setting


def test_what_is_missing_is_named_with_the_way_to_make_it(tmp_path: Path) -> None:
    setting = Setting(folder=tmp_path, provider="cuda")
    with pytest.raises(BenchmarkError, match=r"bundles/one is missing in .*--parts shapes, or --prepare"):
        setting.require(setting.bundle("one"))
    setting.bundle("one").mkdir(parents=True)
    assert setting.require(setting.bundle("one")) == tmp_path / "bundles" / "one"


@pytest.mark.parametrize(
    ("provider", "tiny", "counts"), [("cuda", False, True), ("cuda", True, False), ("cpu", False, False)]
)
def test_goals_are_held_only_against_a_whole_run_on_a_gpu(provider: str, tiny: bool, counts: bool) -> None:
    setting = Setting(folder=Path(), provider=provider, tiny=tiny)
    assert setting.counts is counts
    assert setting.pace == (TINY_PACE if tiny else PACES[provider])
