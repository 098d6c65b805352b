from typing import Any

import pytest
import torch
from torch import Tensor
from transformers import PreTrainedModel

from adamix_export.checkpoint.collapse import AdapterTensors
from adamix_export.tracing.bank import make_bank
from adamix_export.tracing.deberta_attention import positions_by_row
from adamix_export.tracing.merged import merge
from tests.fixtures.tiny_models import tiny_inputs, tiny_model

ATTENTION = "deberta.encoder.layer.0.attention.self"
RANK, WIDTH = 3, 16
BIAS = "disentangled_attention_bias"


def deberta(**settings: object) -> PreTrainedModel:
    """A model whose relative positions weigh as much as its tokens; the same whenever it is made."""
    common = {"share_att_key": True, "norm_rel_ebd": "layer_norm", "initializer_range": 0.3}
    return tiny_model("deberta-v2", **{**common, **settings}).requires_grad_(False)


def adapter(kind: str, *, seed: int, projections: tuple[str, ...] = ("query_proj", "key_proj")) -> AdapterTensors:
    """An adapter of the first layer's attention."""
    torch.manual_seed(seed)
    tensors: AdapterTensors = {}
    for projection in projections:
        site = f"{ATTENTION}.{projection}.{kind}"
        tensors |= {f"{site}.down.weight": torch.randn(RANK, WIDTH), f"{site}.up.weight": torch.randn(WIDTH, RANK)}
        if kind == "houlsby":
            tensors |= {f"{site}.down.bias": torch.randn(RANK), f"{site}.up.bias": torch.randn(WIDTH)}
    return tensors


def stack(name: str, adapters: list[AdapterTensors]) -> Tensor:
    """The weights (slots, in, out) or biases (slots, out) of adapters; zeros where one has none."""
    like = next(tensors[name] for tensors in adapters if name in tensors)
    values = [tensors.get(name, torch.zeros_like(like)) for tensors in adapters]
    return torch.stack([value.T if value.ndim == 2 else value for value in values])


OWN = {"c2p": "pos_key_proj", "p2c": "pos_query_proj"}
"""Projections of positions where they are not shared with tokens."""


@pytest.mark.parametrize("shared", [True, False])
@pytest.mark.parametrize("buckets", [-1, 4])
@pytest.mark.parametrize("parts", [["c2p", "p2c"], ["c2p"], ["p2c"]])
def test_each_row_has_the_positions_of_its_own_adapter(parts: list[str], buckets: int, shared: bool) -> None:
    """Against PyTorch's own attention with one adapter merged, each row alone; slot 0 is the base."""
    settings = {"pos_att_type": parts, "position_buckets": buckets, "share_att_key": shared}
    projections = ("query_proj", "key_proj", *(() if shared else (OWN[part] for part in parts)))
    slots = [
        {},
        adapter("lora", seed=1, projections=projections),
        adapter("houlsby", seed=2, projections=projections),
    ]
    model, inputs = deberta(**settings), tiny_inputs("deberta-v2")
    stacks = make_bank(model, slots)
    stacks.adapter_ids = torch.tensor([2, 1, 0])
    stacks.values = {name: stack(name, slots) for name in stacks.shapes}
    with torch.inference_mode(), positions_by_row(model):
        found = model(**inputs).logits
    rows: list[Any] = []
    for ids, mask, slot in zip(inputs["input_ids"], inputs["attention_mask"], (2, 1, 0), strict=True):
        with torch.inference_mode():
            rows.append(merge(deberta(**settings), slots[slot])(input_ids=ids[mask.bool()][None]).logits)
    torch.testing.assert_close(found, torch.cat(rows), atol=1e-4, rtol=1e-4)


def changed(model: PreTrainedModel) -> list[str]:
    return [name for name, module in model.named_modules() if BIAS in vars(module)]


def test_only_adapted_layers_that_share_their_projections_change_and_only_meanwhile() -> None:
    shared, values, apart = deberta(), deberta(), deberta(share_att_key=False)
    make_bank(shared, [adapter("lora", seed=1, projections=("key_proj",))])
    make_bank(values, [adapter("lora", seed=1, projections=("value_proj",))])
    make_bank(apart, [adapter("lora", seed=1)])
    for model, expected in ((shared, [ATTENTION]), (values, []), (apart, [])):
        with positions_by_row(model):
            assert changed(model) == expected
        assert not changed(model)
