"""Decoders: what a bundle writes is what PyTorch writes, over a cache in place, in rows of lengths of their own."""

from collections import Counter
from pathlib import Path

import numpy as np
import onnx
import peft
import pytest
import torch
from transformers import AutoConfig, AutoModelForCausalLM, LlamaConfig, MistralConfig

from adamix_export.errors import ExportError
from adamix_export.tracing import decoder
from adamix_train.artifacts.checkpoint import read_card
from serve.bundle.reader import open_bundle
from serve.errors import BundleError, InputError, UnknownAdapter
from serve.generation.generator import Generator
from tests.adamix_export.conftest import Export, trained
from tests.adamix_train.conftest import make_writer, writing_data
from tests.fixtures.tiny_models import DECODER, DECODERS

__all__ = ["writing_data"]

WORDS = ["good", "the parcel was bad", "my shop is great it was a fine", "a shop"]
NEW = 12


@pytest.fixture(scope="module")
def checkpoints(tmp_path_factory: pytest.TempPathFactory, writing_data: Path) -> dict[tuple[str, str], Path]:
    """A LoRA and a Houlsby mixture on every family that writes, after a step with a large learning rate."""
    found = {}
    for family in DECODERS:
        base = make_writer(tmp_path_factory.mktemp(family), family)
        for kind in ("lora", "houlsby"):
            found[family, kind] = trained(
                tmp_path_factory.mktemp("runs") / f"{family}-{kind}",
                base,
                writing_data,
                task="generation",
                kind=kind,
                max_length=24,
                max_new_tokens=8,
                consistency_weight=0.0,
                eval_steps=1000,
                learning_rate=0.3,
                report_to="none",
            )
    return found


def pytorch(checkpoint: Path, ids: list[int]) -> np.ndarray:
    """Logits of a row alone, by PyTorch without a cache."""
    base = AutoModelForCausalLM.from_pretrained(read_card(checkpoint).base, dtype=torch.float32)
    model = peft.PeftModel.from_pretrained(base, checkpoint).eval()
    with torch.inference_mode():
        return model(input_ids=torch.tensor([ids])).logits[0].numpy()


def forced(checkpoint: Path, ids: list[int], tokens: list[int]) -> np.ndarray:
    """The logits before each of `tokens` after a prompt."""
    return pytorch(checkpoint, [*ids, *tokens])[len(ids) - 1 : -1]


def greedy(checkpoint: Path, ids: list[int], count: int) -> list[int]:
    tokens: list[int] = []
    for _ in range(count):
        tokens.append(int(pytorch(checkpoint, [*ids, *tokens])[-1].argmax()))
    return tokens


@pytest.mark.parametrize("kind", ["lora", "houlsby"])
@pytest.mark.parametrize("family", DECODERS)
def test_rows_of_any_length_go_on_as_pytorch_goes_on_with_each_alone(
    family: str, kind: str, checkpoints: dict[tuple[str, str], Path], export: Export, tmp_path: Path
) -> None:
    checkpoint = checkpoints[family, kind]
    export("merged", f"task={checkpoint}")
    generator = Generator(tmp_path / "out", provider="cpu")
    prompts = [generator.prompt(text) for text in WORDS]
    tokens = torch.randint(3, 30, (len(prompts), NEW), generator=torch.Generator().manual_seed(0)).tolist()
    for prompt, row, found in zip(prompts, tokens, generator.forced_logits(prompts, tokens), strict=True):
        np.testing.assert_allclose(found, forced(checkpoint, prompt.input_ids, row), atol=1e-4)


@pytest.mark.parametrize("family", ["gpt2", "llama", "qwen3"])
def test_a_bank_writes_each_row_through_its_own_adapter(
    family: str, checkpoints: dict[tuple[str, str], Path], export: Export, tmp_path: Path
) -> None:
    kinds = ("lora", "houlsby")
    reports = export("bank", *(f"{kind}={checkpoints[family, kind]}" for kind in kinds))
    assert all(report.passed and report.equal_labels == 1 for report in reports.values())
    generator = Generator(tmp_path / "out", provider="cpu")
    prompts = [generator.prompt(text, kind) for text in WORDS for kind in kinds]
    tokens = [[3 + (number * step) % 20 for step in range(NEW)] for number in range(len(prompts))]
    found = generator.forced_logits(prompts, tokens)
    for prompt, row, logits in zip(prompts, tokens, found, strict=True):
        expected = forced(checkpoints[family, prompt.adapter.card.name], prompt.input_ids, row)
        np.testing.assert_allclose(logits, expected, atol=1e-4)
    assert all(not np.allclose(one[0], other[0], atol=1e-2) for one, other in zip(found[::2], found[1::2], strict=True))


def test_what_is_written_ends_where_the_model_ends_it(
    checkpoints: dict[tuple[str, str], Path], export: Export, tmp_path: Path
) -> None:
    checkpoint = checkpoints["llama", "lora"]
    export("merged", f"task={checkpoint}")
    generator = Generator(tmp_path / "out", provider="cpu")
    ends = generator.cards["task"].eos_token_ids
    written = generator(WORDS, max_new_tokens=NEW)
    for text, row in zip(WORDS, written, strict=True):
        tokens = greedy(checkpoint, generator.prompt(text).input_ids, NEW)
        end = next((index for index, token in enumerate(tokens) if token in ends), NEW)
        assert (row.tokens, row.ended) == (tokens[:end], end < NEW)
        assert row.text == generator.tokenizer.decode(row.tokens).strip()
        assert row.sha256 == generator.cards["task"].sha256


def test_a_decoder_is_fused_and_keeps_its_weights_once(
    checkpoints: dict[tuple[str, str], Path], export: Export, tmp_path: Path
) -> None:
    export("merged", f"task={checkpoints['qwen3', 'lora']}")
    model = onnx.load(tmp_path / "out" / "model.onnx", load_external_data=False)
    ops = Counter(node.op_type for node in model.graph.node)
    assert ops["GroupQueryAttention"] == 2
    assert ops["SimplifiedLayerNormalization"] == 2 * 4 + 1, "before each half of a layer, on queries and on keys"
    assert not {"Softmax", "Cos", "Sin"} & set(ops)
    edges = {edge.name: edge.shape for edge in open_bundle(tmp_path / "out").manifest.inputs}
    assert edges["past_key_values.1.value"] == ["batch", 1, "max_length", 16]
    assert open_bundle(tmp_path / "out").manifest.task == "text-generation"


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
"""What these have and the others have not: soft-caps, scales, rotary embeddings of neighbouring values."""


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


def test_a_decoder_that_answers_otherwise_is_not_served(
    checkpoints: dict[tuple[str, str], Path], export: Export, tmp_path: Path
) -> None:
    export("bank", f"one={checkpoints['llama', 'lora']}", f"other={checkpoints['llama', 'houlsby']}")
    bundle = open_bundle(tmp_path / "out")
    for tensor in bundle.adapters["one"].tensors.values():
        tensor[...] = 0
    with pytest.raises(BundleError, match="adapter one does not give the logits that it gave in PyTorch"):
        Generator(bundle, provider="cpu")


def test_a_bad_request_is_told_what_is_wrong(
    checkpoints: dict[tuple[str, str], Path], export: Export, tmp_path: Path
) -> None:
    export("bank", *(f"{kind}={checkpoints['llama', kind]}" for kind in ("lora", "houlsby")))
    generator = Generator(tmp_path / "out", provider="cpu")
    with pytest.raises(UnknownAdapter, match="there is no adapter 'x' here; there are lora, houlsby"):
        generator("good", adapter="x")
    with pytest.raises(InputError, match="name an adapter"):
        generator("good")
    with pytest.raises(InputError, match="the text is empty"):
        generator(" ", adapter="lora")


def test_a_long_prompt_loses_its_beginning_as_in_training(
    checkpoints: dict[tuple[str, str], Path], export: Export, tmp_path: Path
) -> None:
    export("merged", f"task={checkpoints['llama', 'lora']}")
    generator = Generator(tmp_path / "out", provider="cpu")
    ids = generator.prompt("the " * 40 + "good").input_ids
    assert len(ids) == 24
    assert generator.tokenizer.decode(ids).endswith("good =>")
