"""Attention over a cache in place: step by step it gives what PyTorch gives at once."""

from pathlib import Path

import numpy as np
import pytest
import torch
from transformers import AutoConfig, AutoModelForCausalLM, LlamaConfig, MistralConfig

from adamix_export.errors import ExportError
from adamix_export.tracing import decoder
from tests.fixtures.tiny_models import DECODER, DECODERS

pytestmark = pytest.mark.slow


def test_a_sliding_window_is_that_of_the_model(tmp_path: Path) -> None:
    """A row longer than the window: at once, and token by token."""
    torch.manual_seed(0)
    config = MistralConfig(**DECODERS["mistral"], sliding_window=4)
    assert_steps(AutoModelForCausalLM.from_config(config), tmp_path)


def test_scaled_rotary_embeddings_are_those_of_the_model(tmp_path: Path) -> None:
    torch.manual_seed(0)
    scaling = {"rope_type": "linear", "factor": 4.0, "rope_theta": 100.0}
    assert_steps(AutoModelForCausalLM.from_config(LlamaConfig(**DECODERS["llama"], rope_parameters=scaling)), tmp_path)


OTHERS = {
    "gemma2": {"final_logit_softcapping": 5.0, "attn_logit_softcapping": 3.0, "sliding_window": 4},
    "granite": {"logits_scaling": 3.0, "residual_multiplier": 0.5},
    "cohere": {"logit_scale": 0.2},
}
"""Features that only these families have: soft-caps, scales, rotary embeddings of neighbouring values."""


@pytest.mark.parametrize("family", OTHERS)
def test_soft_caps_scales_and_other_rotations_are_those_of_the_model(family: str, tmp_path: Path) -> None:
    torch.manual_seed(0)
    config = AutoConfig.for_model(family, **{**DECODER, "initializer_range": 0.3, **OTHERS[family]})
    assert_steps(AutoModelForCausalLM.from_config(config), tmp_path)


@pytest.mark.parametrize(
    ("family", "settings", "message"),
    [
        ("bloom", {"n_layer": 2, "n_head": 2}, "bloom has an attention of its own"),
        ("gpt_neox", {"num_hidden_layers": 2, "num_attention_heads": 2}, "a part of each head"),
        (
            "llama",
            {**DECODER, "head_dim": 8},
            "heads are 8 wide; ONNX Runtime's rotary embeddings need a multiple of 16",
        ),
    ],
)
def test_attention_that_the_operator_does_not_have_is_refused(
    family: str, settings: dict[str, int], message: str, tmp_path: Path
) -> None:
    config = AutoConfig.for_model(family, **{"vocab_size": 50, "hidden_size": 32, "pad_token_id": 0, **settings})
    with pytest.raises(ExportError, match=message):
        decoder.write_graph(AutoModelForCausalLM.from_config(config).eval(), None, tmp_path / "model.onnx")


def assert_steps(model: torch.nn.Module, folder: Path) -> None:
    """Fifteen tokens of a random model, nine at once and then one by one, against PyTorch."""
    import onnxruntime as ort

    model = model.requires_grad_(False).eval()
    ids = torch.randint(3, 50, (1, 15))
    with torch.inference_mode():
        expected = model(input_ids=ids).logits[0].numpy()
    decoder.write_graph(model, None, folder / "model.onnx")
    session = ort.InferenceSession(folder / "model.onnx", providers=["CPUExecutionProvider"])
    cache = {
        value.name: np.zeros((1, value.shape[1], 15, value.shape[3]), np.float32)
        for value in session.get_inputs()
        if value.name.startswith("past")
    }
    for start, end in ((0, 9), *((position, position + 1) for position in range(9, 15))):
        feeds = {"input_ids": ids[:, start:end].numpy(), "attention_mask": np.ones((1, end), np.int64), **cache}
        logits, *present = session.run(None, feeds)
        cache = dict(zip(cache, present, strict=True))
        np.testing.assert_allclose(logits[0, 0], expected[end - 1], atol=1e-4)


def test_rotary_embeddings_that_depend_on_the_length_are_refused(tmp_path: Path) -> None:
    scaling = {"rope_type": "dynamic", "factor": 4.0, "rope_theta": 100.0}
    model = AutoModelForCausalLM.from_config(LlamaConfig(**DECODERS["llama"], rope_parameters=scaling))
    with pytest.raises(ExportError, match="rotary embeddings of type dynamic depend on the sequence's length"):
        decoder.write_graph(model.eval(), None, tmp_path / "model.onnx")
