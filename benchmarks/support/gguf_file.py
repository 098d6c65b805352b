"""GGUF files in the format that llama.cpp computes fastest with on CPUs."""

from pathlib import Path

import gguf
import numpy as np

from adamix_export.converters.gguf_lora import write_all

SLOW, FAST = gguf.GGMLQuantizationType.Q4_1, gguf.GGMLQuantizationType.Q4_0
"""Blocks of 4 bits with a minimum, and those without, which llama.cpp lays out anew for the processor."""
ARCHITECTURE, HEADER = "general.architecture", "GGUF."
"""Fields that the writer makes by itself."""


def in_fast_format(source: Path, out: Path) -> None:
    """Write a GGUF file whose tensors in `SLOW` are in `FAST`; all else stays as it is."""
    reader = gguf.GGUFReader(source)
    writer = gguf.GGUFWriter(out, reader.fields[ARCHITECTURE].contents())
    for name, field in reader.fields.items():
        if name != ARCHITECTURE and not name.startswith(HEADER):
            kind = field.types[0]
            element = field.types[-1] if kind == gguf.GGUFValueType.ARRAY else None
            writer.add_key_value(name, field.contents(), kind, sub_type=element)
    for tensor in reader.tensors:
        data, kind = tensor.data, tensor.tensor_type
        if kind == SLOW:
            values = gguf.quants.dequantize(data, kind).astype(np.float32)
            data, kind = gguf.quants.quantize(values, FAST), FAST
        writer.add_tensor(tensor.name, data, raw_dtype=kind)
    write_all(writer)
