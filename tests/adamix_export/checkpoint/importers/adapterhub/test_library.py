"""The library itself saves adapters of every configuration, and its logits are those of our models."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from adamix_export.checkpoint.checkpoint import open_checkpoint
from tests.adamix_export.converters.peer import peer
from tests.adamix_train.conftest import make_writer
from tests.fixtures.random_checkpoints import make_encoder

SCRIPT = Path(__file__).with_name("library_adapters.py")
INPUTS = {"input_ids": [[4, 12, 5, 13], [7, 3, 0, 0]], "attention_mask": [[1] * 4, [1, 1, 0, 0]]}
JOBS: dict[str, dict[str, Any]] = {
    "seq_bn": {"config": "SeqBnConfig", "fields": {"reduction_factor": 4}},
    "double_seq_bn": {"config": "DoubleSeqBnConfig", "fields": {"reduction_factor": {"0": 2, "default": 4}}},
    "par_bn": {"config": "ParBnConfig", "fields": {"reduction_factor": 4}},
    "adapter_plus": {"config": "AdapterPlusConfig", "fields": {"reduction_factor": 4, "stochastic_depth": 0.0}},
    "ln_after": {"config": "SeqBnConfig", "fields": {"ln_after": True, "leave_out": [1], "scaling": "learned"}},
    "lora": {"config": "LoRAConfig", "fields": {"r": 4, "alpha": 16, "intermediate_lora": True, "output_lora": True}},
    "dora": {"config": "DoRAConfig", "fields": {"alpha": 16}},
    "ia3": {"config": "IA3Config"},
    "one": {"config": "LoRAConfig", "head": {"layers": 1}},
    "three": {"config": "LoRAConfig", "head": {"layers": 3, "activation_function": "relu"}},
    "none": {"config": "LoRAConfig", "head": {"layers": 2, "activation_function": None}},
}
ON_BERT = {
    "pooler": {"config": "LoRAConfig", "head": {"layers": 1, "use_pooler": True}},
    "static": {
        "config": "LoRAConfig",
        "adapt": "BertForSequenceClassification",
        "settings": {"num_labels": 3, "id2label": {0: "a", 1: "b", 2: "c"}, "label2id": {"a": 0, "b": 1, "c": 2}},
    },
}


ON_DECODERS: dict[str, dict[str, Any]] = {
    "seq_bn": {"config": "SeqBnConfig", "fields": {"reduction_factor": 4}},
    "double_seq_bn": {"config": "DoubleSeqBnConfig", "fields": {"reduction_factor": 4}},
    "lora": {"config": "LoRAConfig", "fields": {"r": 4, "alpha": 16, "intermediate_lora": True, "output_lora": True}},
    "ia3": {"config": "IA3Config"},
}
DECODERS = ("gpt2", "llama")
FAMILIES = ("bert", "deberta-v2", "distilbert", "electra", "roberta")


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Any]]:
    """A folder with bases and adapters by family, and the library's logits by adapter."""
    tool, folder = peer("adapters"), tmp_path_factory.mktemp("library")
    jobs = []
    for family in FAMILIES:
        base = make_encoder(folder / family / "base", family)
        for name, job in {**JOBS, **(ON_BERT if family == "bert" else {})}.items():
            jobs.append({"base": str(base), "folder": str(folder / family / name), "inputs": INPUTS, **job})
    for family in DECODERS:
        base = make_writer(folder / family / "base", family, initializer_range=0.2)
        for name, job in ON_DECODERS.items():
            about = {"base": str(base), "folder": str(folder / family / name), "adapt": "AutoModelForCausalLM"}
            jobs.append({**about, "inputs": {"input_ids": INPUTS["input_ids"][:1]}, **job})
    (folder / "jobs.json").write_text(json.dumps(jobs))
    tool.run(str(SCRIPT), folder / "jobs.json", folder / "out.json")
    return folder, json.loads((folder / "out.json").read_text())


@pytest.mark.slow
@pytest.mark.parametrize("family", FAMILIES)
def test_logits_are_those_of_the_library(family: str, saved: tuple[Path, dict[str, Any]]) -> None:
    folder, logits = saved
    expected = {name: torch.tensor(found) for name, found in logits.items() if Path(name).parent.name == family}
    assert len(expected) == len(JOBS) + (len(ON_BERT) if family == "bert" else 0)
    inputs = {name: torch.tensor(value) for name, value in INPUTS.items()}
    for name in expected:
        checkpoint = open_checkpoint(name, base=str(folder / family / "base"))
        assert checkpoint.labels == ["a", "b", "c"]
        for model in (checkpoint.reference, checkpoint.merged()):
            with torch.inference_mode():
                torch.testing.assert_close(model(**inputs).logits, expected[name], rtol=0, atol=2e-5)


@pytest.mark.slow
@pytest.mark.parametrize("family", DECODERS)
def test_logits_of_decoders_are_those_of_the_library(family: str, saved: tuple[Path, dict[str, Any]]) -> None:
    folder, logits = saved
    ids = torch.tensor(INPUTS["input_ids"][:1])
    for name in ON_DECODERS:
        adapter = folder / family / name
        checkpoint = open_checkpoint(str(adapter), base=str(folder / family / "base"))
        for model in (checkpoint.reference, checkpoint.merged()):
            with torch.inference_mode():
                found = model(input_ids=ids).logits
            torch.testing.assert_close(found, torch.tensor(logits[str(adapter)]), rtol=0, atol=2e-5)
