"""Adapters of the `adapters` library on a GPT-2 give the logits of their formulas, put there by hooks."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor
from torch.nn import functional
from transformers import AutoModelForCausalLM, PreTrainedModel

from adamix_export.checkpoint.checkpoint import open_checkpoint
from adamix_export.errors import BankError, ExportError
from serve.generation.generator import Generator
from tests.adamix_train.conftest import make_writer
from tests.fixtures.adapterhub_folders import DOUBLE_SEQ_BN, LORA, PAR_BN, SEQ_BN

WIDTH, R = 16, 4
IDS = torch.tensor([[4, 12, 5, 13]])
Command = Callable[..., None]


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_writer(tmp_path_factory.mktemp("gpt2"), "gpt2", initializer_range=0.2)


def write(folder: Path, base: Path, config: dict[str, Any], tensors: dict[str, Tensor]) -> Path:
    """Write a folder as the library does after `adapters.init` of a causal model."""
    folder.mkdir(parents=True)
    about = {
        "hidden_size": WIDTH,
        "model_class": "GPT2LMHeadModel",
        "model_name": str(base),
        "model_type": "gpt2",
        "name": "tone",
        "version": "adapters.1.3.0",
    }
    (folder / "adapter_config.json").write_text(json.dumps({**about, "config": config}))
    save_file(tensors, folder / "adapter.safetensors")
    return folder


def write_head(folder: Path, weight: Tensor) -> None:
    about = json.loads((folder / "adapter_config.json").read_text())
    (folder / "head_config.json").write_text(json.dumps({**about, "name": None, "config": None, "num_labels": 2}))
    save_file({"lm_head.weight": weight.clone()}, folder / "model_head.safetensors")


def bottlenecks(*places: str) -> dict[str, Tensor]:
    torch.manual_seed(0)
    tensors = {}
    for layer in range(2):
        for place in places:
            adapter = f"transformer.h.{layer}.{place}.adapters.tone"
            tensors[f"{adapter}.adapter_down.0.weight"] = 0.3 * torch.randn(R, WIDTH)
            tensors[f"{adapter}.adapter_down.0.bias"] = 0.3 * torch.randn(R)
            tensors[f"{adapter}.adapter_up.weight"] = 0.3 * torch.randn(WIDTH, R)
            tensors[f"{adapter}.adapter_up.bias"] = 0.3 * torch.randn(WIDTH)
    return tensors


def bottleneck(tensors: dict[str, Tensor], adapter: str, activation: Callable[[Tensor], Tensor]) -> Any:
    down, up = (
        [tensors[f"{adapter}.{part}.{name}"] for name in ("weight", "bias")]
        for part in ("adapter_down.0", "adapter_up")
    )
    return lambda layer, inputs, y: y + functional.linear(activation(functional.linear(y, *down)), *up)


def assert_logits(folder: Path, expected: PreTrainedModel) -> None:
    checkpoint = open_checkpoint(str(folder))
    for model in (checkpoint.reference, checkpoint.merged()):
        with torch.inference_mode():
            torch.testing.assert_close(model(input_ids=IDS).logits, expected(input_ids=IDS).logits, rtol=0, atol=1e-5)


def test_a_bottleneck_behind_each_layer(base: Path, tmp_path: Path) -> None:
    tensors = bottlenecks("output_adapters")
    folder = write(tmp_path / "tone", base, {**SEQ_BN, "reduction_factor": WIDTH / R}, tensors)
    model = AutoModelForCausalLM.from_pretrained(base).eval()
    for layer, block in enumerate(model.transformer.h):
        block.register_forward_hook(
            bottleneck(tensors, f"transformer.h.{layer}.output_adapters.adapters.tone", torch.relu)
        )
    assert_logits(folder, model)
    with pytest.raises(BankError, match=r"is behind a whole layer .*, which a bank does not hold"):
        _ = open_checkpoint(str(folder)).adapter


def test_bottlenecks_behind_projections(base: Path, tmp_path: Path) -> None:
    tensors = bottlenecks("attention_adapters", "output_adapters")
    folder = write(tmp_path / "tone", base, {**DOUBLE_SEQ_BN, "reduction_factor": WIDTH / R}, tensors)
    model = AutoModelForCausalLM.from_pretrained(base).eval()
    for layer, block in enumerate(model.transformer.h):
        for place, module in (("attention_adapters", block.attn.c_proj), ("output_adapters", block.mlp.c_proj)):
            adapter = f"transformer.h.{layer}.{place}.adapters.tone"
            module.register_forward_hook(bottleneck(tensors, adapter, functional.silu))
    assert_logits(folder, model)
    assert all(".swish." in name for name in open_checkpoint(str(folder)).adapter)


def lora() -> dict[str, Tensor]:
    torch.manual_seed(0)
    tensors = {}
    for layer in range(2):
        site = f"transformer.h.{layer}.attn.c_attn.loras.tone"
        tensors |= {f"{site}.lora_A": torch.randn(2 * R, WIDTH), f"{site}.lora_B": 0.1 * torch.randn(2 * WIDTH, R)}
    return tensors


def test_lora_of_a_fused_projection_is_in_its_blocks(base: Path, tmp_path: Path) -> None:
    """Each block has the pair of its own: keys and values here, the second and the third."""
    tensors = lora()
    folder = write(tmp_path / "tone", base, {**LORA, "attn_matrices": ["v", "k"]}, tensors)
    model = AutoModelForCausalLM.from_pretrained(base).eval()
    for layer, block in enumerate(model.transformer.h):
        site = f"transformer.h.{layer}.attn.c_attn.loras.tone"
        a, b = tensors[f"{site}.lora_A"], tensors[f"{site}.lora_B"]

        def adapt(module: Any, inputs: tuple[Tensor], y: Tensor, a: Tensor = a, b: Tensor = b) -> Tensor:
            key = inputs[0] @ a[:R].T @ b[:WIDTH].T
            value = inputs[0] @ a[R:].T @ b[WIDTH:].T
            return y + LORA["alpha"] / R * torch.cat([torch.zeros_like(key), key, value], -1)

        block.attn.c_attn.register_forward_hook(adapt)
    assert_logits(folder, model)


def test_a_head_that_is_the_bases_is_left_out_and_another_is_refused(base: Path, tmp_path: Path) -> None:
    folder = write(tmp_path / "tone", base, LORA, lora())
    own = AutoModelForCausalLM.from_pretrained(base).lm_head.weight.detach()
    write_head(folder, own)
    assert not any("lm_head" in name for name in open_checkpoint(str(folder)).adapter)
    write_head(folder, own + 0.1)
    with pytest.raises(ExportError, match=r"a language model's head that is not the base's.*adapters\.init"):
        _ = open_checkpoint(str(folder)).adapter


def test_places_that_a_decoder_does_not_have_are_named(base: Path, tmp_path: Path) -> None:
    parallel = write(tmp_path / "parallel", base, {**PAR_BN, "reduction_factor": 4}, bottlenecks("output_adapters"))
    with pytest.raises(ExportError, match=r"is a parallel bottleneck \(is_parallel\) of attention, of a gpt2 or"):
        _ = open_checkpoint(str(parallel)).reference
    attention = {**SEQ_BN, "mh_adapter": True, "output_adapter": False, "reduction_factor": 4}
    folder = write(tmp_path / "attention", base, attention, bottlenecks("attention_adapters"))
    with pytest.raises(
        ExportError, match=r"is a bottleneck with original_ln_before=True.* on a gpt2, which is not exp"
    ):
        _ = open_checkpoint(str(folder)).reference


@pytest.mark.slow
def test_a_generator_writes_as_pytorch_does(command: Command, base: Path, tmp_path: Path) -> None:
    tensors = bottlenecks("output_adapters")
    folder = write(tmp_path / "tone", base, {**SEQ_BN, "reduction_factor": WIDTH / R}, tensors)
    command(folder, tmp_path / "out")
    checkpoint = open_checkpoint(str(folder))
    found = Generator(tmp_path / "out")(["good parcel"], max_new_tokens=6)[0].text
    ids = checkpoint.tokenizer("good parcel", return_tensors="pt")["input_ids"]
    written = checkpoint.reference.generate(input_ids=ids, max_new_tokens=6, do_sample=False, pad_token_id=0)
    assert found.strip() == checkpoint.tokenizer.decode(written[0, ids.shape[1] :], skip_special_tokens=True).strip()
