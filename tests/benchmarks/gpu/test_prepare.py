import json
from pathlib import Path

import pytest

from benchmarks.gpu.models import bundles_of
from benchmarks.gpu.prepare import prepare
from benchmarks.gpu.setting import Setting
from benchmarks.gpu.texts import read_texts
from benchmarks.support.errors import BenchmarkError


@pytest.mark.slow
def test_what_travels_has_no_weights_of_what_is_made_elsewhere(prepared: Setting) -> None:
    assert sorted(folder.name for folder in (prepared.folder / "bundles").iterdir()) == sorted(
        bundles_of(prepared=True)
    )
    assert [folder.name for folder in (prepared.folder / "merged").iterdir()] == ["minilm"]
    assert not list((prepared.folder / "bases").rglob("*.safetensors"))
    for name in ("minilm", "roberta-large", "smollm2", "gpt2-medium"):
        assert (prepared.base(name) / "tokenizer.json").is_file()
    assert json.loads((prepared.base("roberta-large") / "config.json").read_text())["model_type"] == "roberta"
    assert len(read_texts(prepared)[1]) > 1


def test_a_folder_that_is_there_is_kept(tmp_path: Path) -> None:
    with pytest.raises(BenchmarkError, match="exists: name another folder"):
        prepare(Setting(folder=tmp_path, provider="cpu", tiny=True))
