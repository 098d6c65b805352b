"""A bundle as a repository of the Hub, whose cache is laid out here and read by its own library: nobody is asked."""

import json
from pathlib import Path

import pytest
from huggingface_hub import snapshot_download
from transformers import AutoConfig, AutoTokenizer

from adamix_export.parity.verification import verify
from tests.adamix_export.conftest import Export
from tests.fixtures.hub_cache import pull


@pytest.mark.parametrize("shared", [False, True])
def test_a_pulled_bundle_is_whole_and_answers(shared: bool, export: Export, lora: Path, tmp_path: Path) -> None:
    export("bank", f"start={lora}")
    pull(tmp_path / "out", tmp_path / "cache", shared=shared)
    folder = Path(snapshot_download("org/name", cache_dir=tmp_path / "cache", local_files_only=True))
    assert (folder / "model.onnx.data").is_symlink()
    assert verify(folder, [str(lora)]).parity["start"].passed


def test_transformers_reads_the_folder(export: Export, lora: Path, tmp_path: Path) -> None:
    export("merged", lora)
    config = AutoConfig.from_pretrained(tmp_path / "out")
    assert list(config.id2label.values()) == ["a", "my", "the"]
    tokenizer = AutoTokenizer.from_pretrained(tmp_path / "out")
    ours = AutoTokenizer.from_pretrained(lora)
    for text in ("the parcel was lovely", "great " * 40):
        assert tokenizer(text, truncation=True)["input_ids"] == ours(text, truncation=True, max_length=16)["input_ids"]
    assert (tokenizer.pad_token_id, tokenizer.model_max_length) == (ours.pad_token_id, 16)
    settings = json.loads((tmp_path / "out" / "tokenizer_config.json").read_text())
    assert settings["model_input_names"] == ["input_ids", "token_type_ids", "attention_mask"]
