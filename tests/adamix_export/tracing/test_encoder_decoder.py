"""An encoder with a decoder: two graphs that together write what PyTorch writes."""

from collections import Counter
from pathlib import Path

import numpy as np
import onnx
import onnxruntime as ort
import peft
import pytest
import torch
from transformers import AutoModelForSeq2SeqLM, BartConfig, BartForConditionalGeneration

from adamix_export.commands.bundle_contents import inspect_bundle
from adamix_export.commands.inspect import describe
from adamix_export.errors import ExportError
from adamix_export.parity.verification import verify
from adamix_export.tracing import encoder_decoder
from adamix_train.artifacts.checkpoint import read_card
from serve.bundle.reader import open_bundle
from serve.errors import BundleError
from serve.generation.generator import Generator
from serve.generation.prompts import Prompt
from serve.generation.static_batch import static_batch
from tests.adamix_export.conftest import Export, MakeGenerative
from tests.fixtures.tiny_models import SEQUENCE_TO_SEQUENCE, tiny_model

WORDS = ["good", "the parcel was bad", "my shop is great it was a fine", "a shop"]
NEW = 20
"""More than T5's sixteen nearest distances, which have a bias each; farther ones share."""


@pytest.fixture(scope="module")
def checkpoints(generative: MakeGenerative) -> dict[str, Path]:
    """A LoRA and a Houlsby mixture on a tiny T5."""
    return {kind: generative("t5", kind) for kind in ("lora", "houlsby")}


def forced(checkpoint: Path, ids: list[int], tokens: list[int]) -> np.ndarray:
    """PyTorch's logits before each of `tokens`, for a row alone."""
    base = AutoModelForSeq2SeqLM.from_pretrained(read_card(checkpoint).base, dtype=torch.float32)
    model = peft.PeftModel.from_pretrained(base, checkpoint).eval()
    with torch.inference_mode():
        inputs = {"input_ids": torch.tensor([ids]), "decoder_input_ids": torch.tensor([[0, *tokens[:-1]]])}
        return model(**inputs).logits[0].numpy()


def drawn(count: int) -> list[list[int]]:
    return torch.randint(3, 30, (count, NEW), generator=torch.Generator().manual_seed(0)).tolist()


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["lora", "houlsby"])
def test_rows_of_any_length_are_written_as_pytorch_writes_each_alone(
    kind: str, checkpoints: dict[str, Path], export: Export, tmp_path: Path
) -> None:
    (report,) = export("merged", f"task={checkpoints[kind]}").values()
    assert report.passed and report.metric == "perplexity" and report.onnx == pytest.approx(report.pytorch, rel=1e-4)
    generator = Generator(tmp_path / "out", provider="cpu")
    prompts = [generator.prompt(text) for text in WORDS]
    tokens = drawn(len(prompts))
    for prompt, row, found in zip(prompts, tokens, generator.forced_logits(prompts, tokens), strict=True):
        np.testing.assert_allclose(found, forced(checkpoints[kind], prompt.input_ids, row), atol=1e-4)


@pytest.mark.slow
def test_a_bank_writes_each_row_through_its_own_adapter(
    checkpoints: dict[str, Path], export: Export, tmp_path: Path
) -> None:
    export("bank", *(f"{kind}={folder}" for kind, folder in checkpoints.items()))
    generator = Generator(tmp_path / "out", provider="cpu")
    prompts = [generator.prompt(text, kind) for text in WORDS for kind in checkpoints]
    tokens = drawn(len(prompts))
    found = generator.forced_logits(prompts, tokens)
    for prompt, row, logits in zip(prompts, tokens, found, strict=True):
        np.testing.assert_allclose(
            logits, forced(checkpoints[prompt.adapter.card.name], prompt.input_ids, row), atol=1e-4
        )
    manifest = open_bundle(tmp_path / "out").manifest
    banks = [
        {edge.name for edge in edges if edge.name.startswith("bank.")}
        for edges in (manifest.encoder_inputs, manifest.inputs)
    ]
    assert all(banks) and not banks[0] & banks[1], "each graph takes the weights that it multiplies by"


@pytest.mark.slow
@pytest.mark.parametrize("family", SEQUENCE_TO_SEQUENCE)
def test_rows_of_a_decoder_may_be_at_places_of_their_own(family: str, tmp_path: Path) -> None:
    """Two targets of different lengths at once, and then a token of each, against PyTorch with each alone."""
    model = tiny_model(family, num_layers=1).requires_grad_(False).eval()
    source, targets = torch.tensor([[3, 4, 5, 6]]), [[0, 7, 8], [0, 9, 10, 11, 12]]
    nexts = [13, 14]
    with torch.inference_mode():
        expected = [
            model(input_ids=source, decoder_input_ids=torch.tensor([[*row, token]])).logits[0].numpy()
            for row, token in zip(targets, nexts, strict=True)
        ]
    encoder_decoder.write_graphs(model, None, tmp_path / "encoder.onnx", tmp_path / "model.onnx")
    encoder, decoder = (
        ort.InferenceSession(tmp_path / name, providers=["CPUExecutionProvider"])
        for name in ("encoder.onnx", "model.onnx")
    )
    sources = source.numpy().repeat(2, axis=0)
    read = encoder.run(None, {"input_ids": sources, "attention_mask": np.ones_like(sources)})
    names = [value.name.replace("present.", "past_key_values.") for value in encoder.get_outputs()]
    steady = {**dict(zip(names, read, strict=True)), "encoder_attention_mask": np.ones_like(sources)}
    cache = {
        value.name: np.zeros((2, value.shape[1], 8, value.shape[3]), np.float32)
        for value in decoder.get_inputs()
        if ".decoder." in value.name
    }
    first = {
        "input_ids": np.array([[*targets[0], 0, 0], targets[1]]),
        "attention_mask": np.array([[1, 1, 1, 0, 0], [1, 1, 1, 1, 1]]),
    }
    second = {
        "input_ids": np.array(nexts)[:, None],
        "attention_mask": np.array([[1, 1, 1, 1, 0, 0], [1, 1, 1, 1, 1, 1]]),
    }
    for offset, feeds in ((-2, first), (-1, second)):
        logits, *present = decoder.run(None, {**feeds, **steady, **cache})
        cache = dict(zip(cache, present, strict=True))
        for row in range(2):
            np.testing.assert_allclose(logits[row, 0], expected[row][offset], atol=1e-4)


@pytest.mark.slow
def test_both_graphs_are_fused_and_keep_their_own_weights(
    checkpoints: dict[str, Path], export: Export, tmp_path: Path
) -> None:
    export("merged", f"task={checkpoints['lora']}")
    graphs = {
        name: onnx.load(tmp_path / "out" / f"{name}.onnx", load_external_data=False).graph
        for name in ("encoder", "model")
    }
    ops = {name: Counter(node.op_type for node in graph.node) for name, graph in graphs.items()}
    assert (ops["encoder"]["MultiHeadAttention"], ops["encoder"]["GroupQueryAttention"]) == (2, 0)
    assert (ops["model"]["MultiHeadAttention"], ops["model"]["GroupQueryAttention"]) == (2, 2)
    assert not {"Softmax", "ReduceMean"} & {*ops["encoder"], *ops["model"]}
    matrices = {
        name: sum(len(value.dims) == 2 and min(value.dims) > 2 for value in graph.initializer)
        for name, graph in graphs.items()
    }
    # Embeddings and biases of distances, then: 2 layers x (4 of attention, 2 of feed-forward) and what reads the
    # source; the decoder has 2 x (4 of its own attention, 2 of that to the source, 2) and the head.
    assert matrices["encoder"] <= 2 + 2 * 6 + 2 * 2
    assert matrices["model"] <= 2 + 2 * 8 + 1
    assert open_bundle(tmp_path / "out").manifest.task == "text2text-generation"


@pytest.mark.slow
def test_a_long_prompt_keeps_its_end_token_as_in_training(
    checkpoints: dict[str, Path], export: Export, tmp_path: Path
) -> None:
    export("merged", f"task={checkpoints['lora']}")
    generator = Generator(tmp_path / "out", provider="cpu")
    ids = generator.prompt("the " * 40).input_ids
    assert (len(ids), ids[-1]) == (24, 2)


@pytest.mark.slow
def test_a_bundle_whose_encoder_was_swapped_is_not_served(
    checkpoints: dict[str, Path], export: Export, tmp_path: Path
) -> None:
    export("merged", f"task={checkpoints['lora']}")
    export("bank", *(f"{kind}={folder}" for kind, folder in checkpoints.items()), out="bank")
    bundle, other = (open_bundle(tmp_path / name) for name in ("out", "bank"))
    assert bundle.encoder is not None and other.encoder is not None
    bundle.encoder.write_bytes(other.encoder.read_bytes())
    with pytest.raises(BundleError, match=r"encoder\.onnx is damaged"):
        open_bundle(tmp_path / "out")
    with pytest.raises(BundleError, match=r"encoder\.onnx"):
        Generator(bundle, provider="cpu")


def test_another_family_is_refused_by_name(tmp_path: Path) -> None:
    sizes = {f"{side}_{name}": 2 for side in ("encoder", "decoder") for name in ("layers", "attention_heads")}
    model = BartForConditionalGeneration(BartConfig(vocab_size=50, d_model=16, **sizes))
    with pytest.raises(ExportError, match="is an encoder-decoder of type bart; t5, mt5 can be exported"):
        encoder_decoder.write_graphs(model, None, tmp_path / "encoder.onnx", tmp_path / "model.onnx")
    assert not list(tmp_path.iterdir())


@pytest.mark.slow
def test_a_bundle_is_shown_and_checked_again_with_both_graphs(
    checkpoints: dict[str, Path], export: Export, tmp_path: Path
) -> None:
    export("merged", f"task={checkpoints['lora']}")
    shown = describe(inspect_bundle(tmp_path / "out"))
    for part in ("encoder's inputs", "encoder's outputs", "encoder.onnx", "model.onnx"):
        assert f"\n{part}\n" in shown
    verdict = verify(tmp_path / "out", [str(checkpoints["lora"])])
    assert verdict.parity["task"].passed


@pytest.mark.slow
def test_a_step_extends_the_cache_and_reads_the_source_once(
    checkpoints: dict[str, Path], export: Export, tmp_path: Path
) -> None:
    export("merged", f"task={checkpoints['lora']}")
    generator = Generator(tmp_path / "out", provider="cpu")
    task = generator.registry.find("task")
    with static_batch(generator.model, [Prompt([3, 4, 2], task), Prompt([5, 2], task)], max_new_tokens=4) as batch:
        before, memory = batch.runner.source_cache.read(0, 3), batch.runner.source_cache.buffers
        batch.runner.encoder = object()  # running it again would fail
        batch.append([5, 6])
        assert batch.runner.source_cache.buffers is memory
        after = batch.runner.source_cache.read(0, 3)
    assert before and all((after[name] == value).all() for name, value in before.items())
    assert [row.total_tokens for row in batch.rows] == [2, 2]
