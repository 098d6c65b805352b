"""A converted adapter has the logits of the collapsed one: read back here, and by the library itself."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from huggingface_hub import ModelCard
from safetensors.torch import load_file

from adamix_export.checkpoint.checkpoint import open_checkpoint
from adamix_export.converters.adapterhub import write_adapterhub
from adamix_export.converters.table import convert
from adamix_export.errors import ExportError
from adamix_export.tracing.merged import merge
from serve.bundle.adapter import Adapter
from serve.bundle.reader import open_bundle
from tests.adamix_export.conftest import Exports, MakeGenerative
from tests.adamix_export.converters.peer import peer
from tests.fixtures.adapterhub_folders import DOUBLE_SEQ_BN, SEQ_BN, write_folder
from tests.fixtures.random_checkpoints import make_encoder, mixture

pytestmark = pytest.mark.slow

INPUTS = {"input_ids": [[4, 12, 5, 13], [7, 3, 0, 0]], "attention_mask": [[1] * 4, [1, 1, 0, 0]]}
SCRIPT = Path(__file__).with_name("adapterhub_logits.py")


def collapsed_logits(checkpoint: Path, inputs: dict[str, Any]) -> torch.Tensor:
    source = open_checkpoint(str(checkpoint))
    with torch.inference_mode():
        return merge(source.base_model(), source.adapter)(**tensors(inputs)).logits


def tensors(inputs: dict[str, Any]) -> dict[str, torch.Tensor]:
    return {name: torch.tensor(value) for name, value in inputs.items()}


def assert_read_back(folder: Path, checkpoint: Path, inputs: dict[str, Any] = INPUTS) -> None:
    """Our own importer, which tests compare with the library and with formulas, reads the collapsed adapter."""
    source = open_checkpoint(str(checkpoint))
    found = open_checkpoint(f"again={folder}", base=str(source.base))
    assert found.labels == source.labels
    with torch.inference_mode():
        logits = found.reference(**tensors(inputs)).logits
        base = source.base_model()(**tensors(inputs)).logits
    expected = collapsed_logits(checkpoint, inputs)
    torch.testing.assert_close(logits, expected, rtol=0, atol=1e-5)
    assert (logits - base).abs().max() > 1e-2, "the base alone would not pass"


def test_a_classifier_is_read_back(merged: Path, lora: Path, bank: Path, houlsby: Path, tmp_path: Path) -> None:
    convert(merged, tmp_path / "lora", "adapters")
    assert_read_back(tmp_path / "lora", lora)
    convert(bank, tmp_path / "houlsby", "adapters", adapter="tone")
    assert_read_back(tmp_path / "houlsby", houlsby)
    config = json.loads((tmp_path / "houlsby" / "adapter_config.json").read_text())["config"]
    assert (config["mh_adapter"], config["output_adapter"], config["non_linearity"]) == (False, True, "gelu")
    assert ModelCard.load(tmp_path / "houlsby" / "README.md").data.library_name == "adapters"


@pytest.mark.parametrize("family", ["gpt2", "llama"])
def test_a_decoder_is_read_back(
    family: str, decoders: dict[str, Path], writers: dict[str, Path], tmp_path: Path
) -> None:
    """GPT-2 has query and value as blocks of one projection, of which the library adapts each by itself."""
    convert(decoders[family], tmp_path / "lora", "adapters")
    assert_read_back(tmp_path / "lora", writers[family], {"input_ids": INPUTS["input_ids"][:1]})


def test_places_widths_and_layers_may_differ(bank: Path, houlsby: Path, tmp_path: Path) -> None:
    """A width that is padded with zeros in one layer, and a place in one layer alone, do the same."""
    bundle = open_bundle(bank)
    adapter = bundle.adapters["tone"]
    wide = {}
    for name, tensor in adapter.tensors.items():
        if ".layer.1." in name and "down" in name:
            tensor = np.pad(tensor, ((0, 3),) + ((0, 0),) * (tensor.ndim - 1))
        elif ".layer.1." in name and "up.weight" in name:
            tensor = np.pad(tensor, ((0, 0), (0, 3)))
        wide[name] = tensor
    write_adapterhub(bundle, [Adapter(adapter.card, wide)], tmp_path)
    config = json.loads((tmp_path / "adapter_config.json").read_text())["config"]
    assert {layer: int(32 // factor) for layer, factor in config["reduction_factor"].items()} == {"0": 4, "1": 7}
    assert_read_back(tmp_path, houlsby)


@pytest.mark.parametrize("config", [SEQ_BN, DOUBLE_SEQ_BN])
def test_an_imported_adapter_goes_back(config: dict[str, Any], bank: Path, tiny_base: Path, tmp_path: Path) -> None:
    """Bottlenecks within layer norms, and with swish; the head is the library's default."""
    source = open_checkpoint(str(write_folder(tmp_path / "tone", tiny_base, {**config, "leave_out": [1]})))
    bundle = open_bundle(bank)
    card = replace(bundle.adapters["tone"].card, labels=source.labels)
    (tmp_path / "again").mkdir()
    adapter = Adapter(card, {name: tensor.numpy() for name, tensor in source.adapter.items()})
    write_adapterhub(bundle, [adapter], tmp_path / "again")
    for file in ("adapter.safetensors", "model_head.safetensors"):
        before, after = load_file(tmp_path / "tone" / file), load_file(tmp_path / "again" / file)
        assert before.keys() == after.keys() and all(torch.equal(before[name], after[name]) for name in before)
    again = open_checkpoint(str(tmp_path / "again"), base=str(tiny_base))
    (before,), (after,) = (checkpoint.importer.source.methods for checkpoint in (source, again))
    assert again.labels == source.labels and after.items() <= before.items()


def test_one_kind_alone_converts(bank: Path, lora: Path, tmp_path: Path) -> None:
    with pytest.raises(ExportError, match="the bundle has tone, start: choose one with --adapter"):
        convert(bank, tmp_path / "out", "adapters")
    bundle = open_bundle(bank)
    adapter = bundle.adapters["start"]
    site = "bert.encoder.layer.0.attention.self.query"
    scale = {f"{site}.affine.out.weight": np.ones(32, np.float32), f"{site}.affine.out.bias": np.ones(32, np.float32)}
    with pytest.raises(ExportError, match="start is a affine and lora adapter, which adapters does not take"):
        write_adapterhub(bundle, [Adapter(adapter.card, {**adapter.tensors, **scale})], tmp_path)
    moved = {name.replace("attention.self.query", "attention.output.dense"): t for name, t in adapter.tensors.items()}
    with pytest.raises(ExportError, match=r"bert\.encoder\.layer\.0\.attention\.output\.dense is adapted, where"):
        write_adapterhub(bundle, [Adapter(adapter.card, moved)], tmp_path)


@pytest.fixture(scope="module")
def classifiers(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Mixtures of each kind, on bases with other classifiers."""
    folder = tmp_path_factory.mktemp("classifiers")
    return {
        family: mixture(folder / f"{family}-run", make_encoder(folder / family, family), kind=kind, sites=sites)
        for family, kind, sites in (
            ("roberta", "pfeiffer", "feed_forward"),
            ("distilbert", "houlsby", "attention,feed_forward"),
            ("electra", "lora", "query_value,feed_forward"),
        )
    }


def test_the_library_gives_the_logits_of_our_collapsed_adapters(
    exported: Exports,
    generative: MakeGenerative,
    classifiers: dict[str, Path],
    lora: Path,
    houlsby: Path,
    tmp_path: Path,
) -> None:
    tool = peer("adapters")
    checkpoints = {"lora": lora, "houlsby": houlsby, **classifiers}
    checkpoints |= {family: generative(family, "lora") for family in ("gpt2", "llama")}
    jobs = []
    for name, checkpoint in checkpoints.items():
        convert(exported("merged", f"task={checkpoint}"), tmp_path / name, "adapters")
        generates = name in ("gpt2", "llama")
        inputs = {"input_ids": INPUTS["input_ids"][:1]} if generates else INPUTS
        base = str(open_checkpoint(str(checkpoint)).base)
        jobs.append({"folder": str(tmp_path / name), "base": base, "inputs": inputs, "generates": generates})
    (tmp_path / "jobs.json").write_text(json.dumps(jobs))
    tool.run(str(SCRIPT), tmp_path / "jobs.json", tmp_path / "out.json")
    found = json.loads((tmp_path / "out.json").read_text())
    for job, checkpoint in zip(jobs, checkpoints.values(), strict=True):
        answer = found[job["folder"]]
        expected = collapsed_logits(checkpoint, job["inputs"])
        torch.testing.assert_close(torch.tensor(answer["logits"]), expected, rtol=0, atol=1e-5)
        if not job["generates"]:
            assert answer["labels"] == open_checkpoint(str(checkpoint)).labels
