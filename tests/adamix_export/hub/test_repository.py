"""A bundle as a repository of the Hub, whose cache is laid out here and read by its own library: nobody is asked."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from huggingface_hub import snapshot_download
from transformers import AutoConfig, AutoTokenizer

from adamix_export.checkpoint.checkpoint import open_checkpoint
from adamix_export.parity.verification import verify
from adamix_export.tasks.classification import logits
from tests.adamix_export.conftest import Export, Exports
from tests.adamix_export.converters.peer import peer
from tests.adamix_train.conftest import make_writer
from tests.fixtures.generation_banks import generative_checkpoint
from tests.fixtures.hub_cache import pull

pytestmark = pytest.mark.slow

TEXTS = ["the parcel was lovely", "a shop was broken", "my parcel", "bad", "it is " + "great " * 40]


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


LOGITS = Path(__file__).with_name("optimum_logits.py")


def classified(folder: Path, scratch: Path) -> dict[str, list]:
    (scratch / "texts.json").write_text(json.dumps(TEXTS))
    peer("optimum").run(str(LOGITS), folder, scratch / "texts.json", scratch / "out.json")
    return json.loads((scratch / "out.json").read_text())


@pytest.mark.parametrize("kind", ["lora", "houlsby"])
def test_optimum_classifies_as_pytorch_does(
    kind: str, exported: Exports, request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    checkpoint = request.getfixturevalue(kind)
    source = open_checkpoint(str(checkpoint))
    found = classified(exported("merged", str(checkpoint)), tmp_path)
    expected = logits(source, [(text,) for text in TEXTS])
    np.testing.assert_allclose(found["logits"], expected, atol=1e-5)
    assert found["labels"] == source.card.labels
    assert found["chosen"] == [source.card.labels[index] for index in expected.argmax(-1)]


def test_optimum_writes_what_pytorch_writes(exported: Exports, writing_data: Path, tmp_path: Path) -> None:
    """optimum takes a head's width to be the hidden size over the heads."""
    optimum = peer("optimum")
    base = make_writer(tmp_path / "base", "llama", hidden_size=32, head_dim=16)
    run = generative_checkpoint(tmp_path / "run", base, writing_data, kind="lora", seed=2)
    batches = [[[5, 7, 9, 4]], [[12, 8, 5]], [[5, 7, 9, 4], [6, 6, 10, 11]]]
    job, out = tmp_path / "job.json", tmp_path / "written.json"
    job.write_text(json.dumps({"batches": batches, "new": 12}))
    optimum.run(str(LOGITS.with_name("optimum_greedy.py")), exported("merged", str(run)), job, out)
    model = open_checkpoint(str(run)).merged()
    settings = {"max_new_tokens": 12, "do_sample": False, "eos_token_id": None, "pad_token_id": 0}
    expected = [
        [model.generate(torch.tensor([ids]), **settings)[0, len(ids) :].tolist() for ids in batch] for batch in batches
    ]
    assert json.loads(out.read_text()) == expected
