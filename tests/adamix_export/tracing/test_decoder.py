"""Decoders: what a bundle writes is what PyTorch writes, over a cache in place, in rows of lengths of their own."""

from collections import Counter
from pathlib import Path

import numpy as np
import onnx
import peft
import pytest
import torch
from transformers import AutoModelForCausalLM

from adamix_train.artifacts.checkpoint import read_card
from serve.bundle.reader import open_bundle
from serve.errors import BundleError, InputError, UnknownAdapter
from serve.generation.generator import Generator
from serve.generation.model_runner import ModelRunner
from serve.generation.static_batch import StaticRow
from serve.limits import GenerationLimits
from serve.sampling_params import SamplingParams
from tests.adamix_export.conftest import Export, MakeGenerative
from tests.fixtures.tiny_models import DECODERS

pytestmark = pytest.mark.slow

WORDS = ["good", "the parcel was bad", "my shop is great it was a fine", "a shop"]

NEW = 12

CASES = [
    *((family, "lora") for family in DECODERS),
    *(
        pytest.param(family, "houlsby", marks=() if family in ("gpt2", "llama") else pytest.mark.soak)
        for family in DECODERS
    ),
]
"""A Houlsby adapter wraps the blocks of GPT-2, or those whose names Llama's relatives share with it."""


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


@pytest.mark.parametrize(("family", "kind"), CASES)
def test_rows_of_any_length_go_on_as_pytorch_goes_on_with_each_alone(
    family: str, kind: str, generative: MakeGenerative, export: Export, tmp_path: Path
) -> None:
    checkpoint = generative(family, kind)
    export("merged", f"task={checkpoint}")
    generator = Generator(tmp_path / "out", provider="cpu")
    prompts = [generator.prompt(text) for text in WORDS]
    tokens = torch.randint(3, 30, (len(prompts), NEW), generator=torch.Generator().manual_seed(0)).tolist()
    for prompt, row, found in zip(prompts, tokens, generator.forced_logits(prompts, tokens), strict=True):
        np.testing.assert_allclose(found, forced(checkpoint, prompt.input_ids, row), atol=1e-4)


@pytest.mark.parametrize("family", ["gpt2", "llama", "qwen3"])
def test_a_bank_writes_each_row_through_its_own_adapter(
    family: str, generative: MakeGenerative, export: Export, tmp_path: Path
) -> None:
    kinds = ("lora", "houlsby")
    reports = export("bank", *(f"{kind}={generative(family, kind)}" for kind in kinds))
    assert all(report.passed and report.equal_labels == 1 for report in reports.values())
    generator = Generator(tmp_path / "out", provider="cpu")
    prompts = [generator.prompt(text, kind) for text in WORDS for kind in kinds]
    tokens = [[3 + (number * step) % 20 for step in range(NEW)] for number in range(len(prompts))]
    found = generator.forced_logits(prompts, tokens)
    for prompt, row, logits in zip(prompts, tokens, found, strict=True):
        expected = forced(generative(family, prompt.adapter.card.name), prompt.input_ids, row)
        np.testing.assert_allclose(logits, expected, atol=1e-4)
    assert all(not np.allclose(one[0], other[0], atol=1e-2) for one, other in zip(found[::2], found[1::2], strict=True))


def test_what_is_written_ends_where_the_model_ends_it(
    generative: MakeGenerative, export: Export, tmp_path: Path
) -> None:
    checkpoint = generative("llama", "lora")
    export("merged", f"task={checkpoint}")
    generator = Generator(tmp_path / "out", provider="cpu")
    ends = generator.cards["task"].eos_token_ids
    written = generator(WORDS, max_new_tokens=NEW)
    for text, row in zip(WORDS, written, strict=True):
        tokens = greedy(checkpoint, generator.prompt(text).input_ids, NEW)
        end = next((index for index, token in enumerate(tokens) if token in ends), NEW)
        assert (row.tokens, row.finish_reason == "stop") == (tokens[:end], end < NEW)
        assert row.text == generator.tokenizer.decode(row.tokens).strip()
        assert row.sha256 == generator.cards["task"].sha256


@pytest.mark.parametrize("family", ["gpt2", "llama", "qwen3"])
def test_logits_behind_several_tokens_are_those_of_pytorch(
    family: str, generative: MakeGenerative, export: Export, tmp_path: Path
) -> None:
    checkpoint = generative(family, "lora")
    export("merged", f"task={checkpoint}")
    generator = Generator(tmp_path / "out", provider="cpu", limits=GenerationLimits(prompt_lookup=5))
    prompt, new = generator.prompt(WORDS[1]).input_ids, [5, 9, 4, 7]
    expected = pytorch(checkpoint, [*prompt, *new])
    runner = ModelRunner(generator.model, max_tokens=64)
    runner.reserve(1, tokens=64, source_tokens=0)
    row = StaticRow(source=(), slot=0, total_tokens=len(prompt))
    found = runner.run([prompt], [row], first=0, positions=3).all()
    np.testing.assert_allclose(found, expected[len(prompt) - 3 : len(prompt)], atol=1e-4)
    row.total_tokens += len(new)
    found = runner.run([new], [row], first=0, positions=len(new)).all()
    np.testing.assert_allclose(found, expected[len(prompt) :], atol=1e-4)
    assert runner.run([new[-1:]], [row], first=0).all().shape == expected[-1:].shape, "the last one alone, by default"
    (written,) = generator.generate([generator.prompt(WORDS[1])], sampling=SamplingParams(ignore_eos=True))
    assert written.tokens == greedy(checkpoint, prompt, len(written.tokens))


def test_a_decoder_is_fused_and_keeps_its_weights_once(
    generative: MakeGenerative, export: Export, tmp_path: Path
) -> None:
    export("merged", f"task={generative('qwen3', 'lora')}")
    model = onnx.load(tmp_path / "out" / "model.onnx", load_external_data=False)
    ops = Counter(node.op_type for node in model.graph.node)
    assert ops["GroupQueryAttention"] == 2
    assert ops["SimplifiedLayerNormalization"] == 2 * 4 + 1, "before each half of a layer, on queries and on keys"
    assert not {"Softmax", "Cos", "Sin"} & set(ops)
    edges = {edge.name: edge.shape for edge in open_bundle(tmp_path / "out").manifest.inputs}
    assert edges["past_key_values.1.value"] == ["batch", 1, "max_length", 16]
    assert open_bundle(tmp_path / "out").manifest.task == "text-generation"


def test_a_decoder_that_answers_otherwise_is_not_served(
    generative: MakeGenerative, export: Export, tmp_path: Path
) -> None:
    export("bank", f"one={generative('llama', 'lora')}", f"other={generative('llama', 'houlsby')}")
    bundle = open_bundle(tmp_path / "out")
    for tensor in bundle.adapters["one"].tensors.values():
        tensor[...] = 0
    with pytest.raises(BundleError, match="adapter one does not give the logits that it gave in PyTorch"):
        Generator(bundle, provider="cpu")


def test_a_bad_request_is_told_what_is_wrong(generative: MakeGenerative, export: Export, tmp_path: Path) -> None:
    export("bank", *(f"{kind}={generative('llama', kind)}" for kind in ("lora", "houlsby")))
    generator = Generator(tmp_path / "out", provider="cpu")
    with pytest.raises(UnknownAdapter, match="there is no adapter 'x' here; there are lora, houlsby"):
        generator("good", adapter="x")
    with pytest.raises(InputError, match="name an adapter"):
        generator("good")
    with pytest.raises(InputError, match="the text is empty"):
        generator(" ", adapter="lora")


def test_a_long_prompt_loses_its_beginning_as_in_training(
    generative: MakeGenerative, export: Export, tmp_path: Path
) -> None:
    export("merged", f"task={generative('llama', 'lora')}")
    generator = Generator(tmp_path / "out", provider="cpu")
    ids = generator.prompt("the " * 40 + "good").input_ids
    assert len(ids) == 24
    assert generator.tokenizer.decode(ids).endswith("good =>")
