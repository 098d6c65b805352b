"""llama.cpp, in its own environment, writes with our collapsed LoRA what PyTorch writes."""

import json
from pathlib import Path

import gguf
import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch.nn.functional import log_softmax

from adamix_export.checkpoint.checkpoint import open_checkpoint
from adamix_export.converters.gguf_lora import FILE
from adamix_export.converters.table import convert
from adamix_export.errors import ExportError
from tests.adamix_export.conftest import Exports
from tests.adamix_export.converters.gguf_base import write_base
from tests.adamix_export.converters.peer import peer

pytestmark = pytest.mark.slow

SCRIPT = Path(__file__).with_name("llama_cpp_logprobs.py")
PROMPTS = [[5, 7, 9, 4], [12, 8, 5], [6, 6, 10, 11, 4, 13]]


def theirs(base: Path, adapter: Path | str, vocabulary: int, scratch: Path) -> list[NDArray[np.float32]]:
    """llama.cpp's log probabilities of the token after each prompt."""
    job, out = scratch / "job.json", scratch / "written.json"
    job.write_text(json.dumps({"prompts": PROMPTS, "vocabulary": vocabulary}))
    peer("llama").run(str(SCRIPT), base, adapter, job, out)
    found = json.loads(out.read_text())
    return [np.array([logprobs[str(token)] for token in range(vocabulary)], np.float32) for logprobs in found]


@pytest.mark.parametrize("family", ["gpt2", "llama"])
def test_llama_cpp_gives_the_probabilities_of_our_adapter(
    family: str, decoders: dict[str, Path], writers: dict[str, Path], tmp_path: Path
) -> None:
    peer("llama")
    convert(decoders[family], tmp_path / "out", "gguf-lora")
    source = open_checkpoint(str(writers[family]))
    base = write_base(source.base, tmp_path / "base.gguf")
    model, plain = source.merged(), source.base_model()
    found = theirs(base, tmp_path / "out" / FILE, model.config.vocab_size, tmp_path)
    without = theirs(base, "-", model.config.vocab_size, tmp_path)
    for prompt, adapted, bare in zip(PROMPTS, found, without, strict=True):
        with torch.inference_mode():
            expected, unchanged = (
                log_softmax(each(input_ids=torch.tensor([prompt])).logits[0, -1], -1).numpy() for each in (model, plain)
            )
        np.testing.assert_allclose(adapted, expected, atol=1e-3)
        np.testing.assert_allclose(bare, unchanged, atol=1e-3)
        assert abs(expected - unchanged).max() > 1e-2, "the base alone would pass"


def test_the_file_is_an_adapter_whose_alpha_is_its_rank(decoders: dict[str, Path], tmp_path: Path) -> None:
    hint = convert(decoders["llama"], tmp_path / "out", "gguf-lora")
    assert "--lora FOLDER/adapter.gguf" in hint
    reader = gguf.GGUFReader(tmp_path / "out" / FILE)
    fields = {name: reader.get_field(name).contents() for name in reader.fields if not name.startswith("GGUF")}
    shapes = {tensor.name: tuple(tensor.shape) for tensor in reader.tensors}
    assert fields["general.architecture"] == "llama" and fields["general.type"] == "adapter"
    assert fields["adapter.type"] == "lora"
    rank = fields["adapter.lora.alpha"]
    assert rank == shapes["blk.0.attn_q.weight.lora_a"][1] == shapes["blk.1.attn_v.weight.lora_b"][0]


def test_llamas_queries_and_keys_are_stored_as_llama_cpp_rotates_them(
    decoders: dict[str, Path], writers: dict[str, Path], tmp_path: Path
) -> None:
    """Its first two rows of a head are the first rows of the head's two halves."""
    convert(decoders["llama"], tmp_path / "out", "gguf-lora")
    stored = {tensor.name: tensor.data for tensor in gguf.GGUFReader(tmp_path / "out" / FILE).tensors}
    up = open_checkpoint(str(writers["llama"])).adapter["model.layers.0.self_attn.q_proj.lora.up.weight"].numpy()
    found = stored["blk.0.attn_q.weight.lora_b"]
    np.testing.assert_array_equal(found[:4], up[[0, 8, 1, 9]])
    np.testing.assert_array_equal(found[16:18], up[[16, 24]])


def test_what_llama_cpp_does_not_have_is_refused(merged: Path, bank: Path, exported: Exports, tmp_path: Path) -> None:
    with pytest.raises(ExportError, match=r"bert is not converted to an adapter of llama.cpp; known are gpt2, llama"):
        convert(merged, tmp_path / "out", "gguf-lora")
    with pytest.raises(ExportError, match=r"an adapter of llama.cpp is one adapter, and the bundle has tone, start"):
        convert(bank, tmp_path / "out", "gguf-lora")
    assert not (tmp_path / "out").exists()
