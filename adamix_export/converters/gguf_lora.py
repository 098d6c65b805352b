"""A collapsed LoRA of a decoder as an adapter of llama.cpp, in its format GGUF."""

from pathlib import Path
from typing import Any

import gguf
import torch
from torch import Tensor
from transformers import AutoConfig

from adamix_export.converters.lora_sites import lora_sites, only_adapter, padded
from adamix_export.errors import ExportError
from adamix_export.tracing.sizes import AttentionSizes, attention_sizes
from serve.bundle.adapter import Adapter
from serve.bundle.reader import Bundle

FILE = "adapter.gguf"
MARK = FILE
ARCHITECTURES = {
    "gpt2": gguf.MODEL_ARCH.GPT2,
    "llama": gguf.MODEL_ARCH.LLAMA,
    "mistral": gguf.MODEL_ARCH.LLAMA,
    "qwen2": gguf.MODEL_ARCH.QWEN2,
    "qwen3": gguf.MODEL_ARCH.QWEN3,
}
"""Family by transformers' name → architecture of llama.cpp."""
ROTATED = {"attn_q": "heads", "attn_k": "key_value_heads"}
"""Projections whose outputs llama.cpp stores in another order where it is of architecture llama → size of theirs."""


def write_gguf(bundle: Bundle, adapters: list[Adapter], folder: Path) -> str:
    """Write the only adapter in `adapters` as `adapter.gguf`; return how to load it."""
    adapter = only_adapter(adapters, "an adapter of llama.cpp")
    config = AutoConfig.from_pretrained(bundle.folder)
    if config.model_type not in ARCHITECTURES:
        raise ExportError(
            f"{config.model_type} is not converted to an adapter of llama.cpp; known are {', '.join(ARCHITECTURES)}"
        )
    pairs = lora_sites(adapter, "llama.cpp").pairs
    architecture, sizes = ARCHITECTURES[config.model_type], attention_sizes(config)
    names = gguf.get_tensor_name_map(architecture, sizes.layers)
    rank = max(down.shape[0] for down, _ in pairs.values())
    writer = _writer(folder / FILE, architecture, adapter.card.name, rank)
    for module, (down, up) in pairs.items():
        name = names.get_name(f"{module}.weight", (".weight",))
        if name is None:
            raise ExportError(f"llama.cpp has no tensor for {module} of {config.model_type}")
        if architecture is gguf.MODEL_ARCH.LLAMA:
            up = _reordered(up, name, sizes)
        for part, weight in zip(("lora_a", "lora_b"), padded(down, up, rank), strict=True):
            writer.add_tensor(f"{name}.{part}", weight.contiguous().numpy())
    write_all(writer)
    return (
        f"llama-cli --model BASE.gguf --lora FOLDER/{FILE} loads it; BASE.gguf is {bundle.manifest.base['name']}, "
        "converted by llama.cpp"
    )


def write_all(writer: gguf.GGUFWriter) -> None:
    """Write the file of a writer, and close it."""
    for write in (writer.write_header_to_file, writer.write_kv_data_to_file, writer.write_tensors_to_file):
        write()
    writer.close()


def _writer(file: Path, architecture: Any, name: str, rank: int) -> Any:
    """Return a writer with an adapter's metadata. Its alpha is its rank: the scaling is folded into the weights."""
    writer = gguf.GGUFWriter(file, gguf.MODEL_ARCH_NAMES[architecture])
    writer.add_type(gguf.GGUFType.ADAPTER)
    writer.add_name(name)
    writer.add_string(gguf.Keys.Adapter.TYPE, "lora")
    writer.add_float32(gguf.Keys.Adapter.LORA_ALPHA, float(rank))
    return writer


def _reordered(up: Tensor, name: str, sizes: AttentionSizes) -> Tensor:
    """Return `up` (out, r) with the two halves of each head interleaved, as llama.cpp rotates neighbouring outputs."""
    part = next((size for end, size in ROTATED.items() if name.endswith(f".{end}.weight")), None)
    if part is None:
        return up
    halves = up.reshape(getattr(sizes, part), 2, -1, up.shape[1])
    return torch.swapaxes(halves, 1, 2).reshape(up.shape)
