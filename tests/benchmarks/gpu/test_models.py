from pathlib import Path

from benchmarks.gpu.models import BUNDLES, MODELS, bundles_of, missing_bundles
from benchmarks.gpu.setting import Setting


def test_minilm_travels_and_the_large_shapes_are_made_where_they_run() -> None:
    assert all(name.startswith("minilm-") for name in bundles_of(prepared=True))
    assert bundles_of(prepared=False) == [
        "roberta-large-merged",
        "smollm2-merged",
        "smollm2-bank",
        "gpt2-medium-merged",
        "gpt2-medium-bank",
    ]
    assert {plan.model for plan in BUNDLES.values()} == set(MODELS)


def test_what_is_made_is_not_missing(tmp_path: Path) -> None:
    setting = Setting(folder=tmp_path, provider="cpu")
    setting.bundle("smollm2-bank").mkdir(parents=True)
    assert missing_bundles(setting) == [name for name in bundles_of(prepared=False) if name != "smollm2-bank"]
