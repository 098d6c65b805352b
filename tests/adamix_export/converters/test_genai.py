"""onnxruntime-genai, in its own environment, writes what our engine writes."""

import json
from pathlib import Path

import numpy as np
import onnxruntime as ort
import pytest
from numpy.typing import NDArray

from adamix_export.converters.table import convert
from adamix_export.errors import ExportError
from serve.bundle.reader import open_bundle
from serve.generation.generator import Generator
from serve.generation.prompts import Prompt
from tests.adamix_export.conftest import Exports
from tests.adamix_export.converters.peer import peer

pytestmark = pytest.mark.slow

GREEDY = Path(__file__).with_name("genai_greedy.py")
PROMPTS = [[5, 7, 9, 4], [12, 8, 5], [6, 6, 10, 11, 4, 13], [15]]
NEW = 12


def theirs(folder: Path, rows: list[list[list[int]]], adapter: str | None = None) -> list[list[int]]:
    """Tokens that genai generates, sequence after sequence, batch after batch."""
    job, out = folder.parent / "job.json", folder.parent / "written.json"
    job.write_text(json.dumps({"rows": rows, "new": NEW, "adapter": adapter}))
    peer("genai").run(str(GREEDY), folder, job, out)
    return [tokens for batch in json.loads(out.read_text()) for tokens in batch]


def ours(bundle: Path, adapter: str) -> list[list[int]]:
    """Tokens that our engine generates, like genai without the end-of-sequence token."""
    generator = Generator(bundle, provider="cpu")
    prompts = [Prompt(ids, generator.registry.find(adapter)) for ids in PROMPTS]
    return [row.tokens for row in generator.generate(prompts, max_new_tokens=NEW)]


@pytest.mark.parametrize("family", ["gpt2", "llama"])
def test_genai_writes_the_same_greedy_tokens(family: str, decoders: dict[str, Path], tmp_path: Path) -> None:
    convert(decoders[family], tmp_path / "out", "genai")
    assert theirs(tmp_path / "out", [[ids] for ids in PROMPTS]) == ours(decoders[family], "task")


def test_genai_writes_the_same_in_a_batch_of_different_lengths(decoders: dict[str, Path], tmp_path: Path) -> None:
    convert(decoders["llama"], tmp_path / "out", "genai")
    pad = json.loads((tmp_path / "out" / "genai_config.json").read_text())["model"]["pad_token_id"]
    longest = max(map(len, PROMPTS))
    batch = [ids + [pad] * (longest - len(ids)) for ids in PROMPTS]
    for found, expected in zip(theirs(tmp_path / "out", [batch]), ours(decoders["llama"], "task"), strict=True):
        assert found[: len(expected)] == expected
        assert set(found[len(expected) :]) <= {pad, 2}, "after its end a row is padded"


def test_genai_writes_through_the_adapters_of_a_bank(
    exported: Exports, writers: dict[str, Path], tmp_path: Path
) -> None:
    bundle = exported("bank", f"task={writers['llama']}")
    convert(bundle, tmp_path / "out", "genai")
    rows = [[ids] for ids in PROMPTS]
    adapted = theirs(tmp_path / "out", rows, "task")
    assert adapted == ours(bundle, "task")
    assert adapted != theirs(tmp_path / "out", rows), "the base alone would not pass"


def test_the_configuration_is_that_of_the_graph(decoders: dict[str, Path], tmp_path: Path) -> None:
    convert(decoders["llama"], tmp_path / "out", "genai")
    config = json.loads((tmp_path / "out" / "genai_config.json").read_text())
    decoder = config["model"]["decoder"]
    edges = {edge.name for edge in open_bundle(decoders["llama"]).manifest.inputs}
    layers = range(decoder["num_hidden_layers"])
    names = {decoder["inputs"][part] % layer for part in ("past_key_names", "past_value_names") for layer in layers}
    assert names | {"input_ids", "attention_mask"} == edges
    assert (decoder["head_size"], decoder["num_key_value_heads"], decoder["num_attention_heads"]) == (16, 1, 2)
    assert config["search"]["past_present_share_buffer"] is True


@pytest.mark.parametrize("family", ["gpt2", "llama"])
def test_the_graph_gives_the_logits_of_every_token(family: str, decoders: dict[str, Path], tmp_path: Path) -> None:
    """Those of a token are what the bundle's graph gives where the prompt ends with it."""
    convert(decoders[family], tmp_path / "out", "genai")
    ids = PROMPTS[2]
    (whole,) = logits_of(decoders[family], tmp_path / "out", ids)
    assert len(whole) == len(ids)
    for end in range(1, len(ids) + 1):
        (last,) = logits_of(decoders[family], decoders[family], ids[:end])
        np.testing.assert_allclose(whole[end - 1 : end], last, atol=1e-5)


def logits_of(bundle: Path, folder: Path, ids: list[int]) -> list[NDArray[np.float32]]:
    """Logits (tokens, vocabulary) of a prompt, by the graph in `folder`."""
    session = ort.InferenceSession(folder / "model.onnx", providers=["CPUExecutionProvider"])
    feeds = {"input_ids": np.array([ids]), "attention_mask": np.ones((1, len(ids)), np.int64)}
    for edge in open_bundle(bundle).manifest.inputs:
        if edge.name not in feeds:
            feeds[edge.name] = np.zeros(
                [size if isinstance(size, int) else {"batch": 1}.get(size, len(ids)) for size in edge.shape], np.float32
            )
    return [found[0] for found in session.run(["logits"], feeds)]


def test_a_classifier_is_refused(merged: Path, tmp_path: Path) -> None:
    with pytest.raises(ExportError, match=r"genai runs text-generation; .* is of task text-classification"):
        convert(merged, tmp_path / "out", "genai")
