from pathlib import Path

import gguf
import numpy as np

from adamix_export.converters.gguf_lora import write_all
from benchmarks.support.gguf_file import FAST, SLOW, in_fast_format

F32 = gguf.GGMLQuantizationType.F32


def test_tensors_of_the_slow_format_change_it_and_nothing_else_changes(tmp_path: Path) -> None:
    random = np.random.default_rng(0)
    weight, norm = random.normal(size=(4, 64)).astype(np.float32), random.normal(size=8).astype(np.float32)
    writer = gguf.GGUFWriter(tmp_path / "slow.gguf", "llama")
    writer.add_context_length(64)
    writer.add_token_list(["a", "b", "ü"])
    writer.add_tensor("weight", gguf.quants.quantize(weight, SLOW), raw_dtype=SLOW)
    writer.add_tensor("norm", norm)
    write_all(writer)
    in_fast_format(tmp_path / "slow.gguf", tmp_path / "fast.gguf")
    slow, fast = (gguf.GGUFReader(tmp_path / f"{name}.gguf") for name in ("slow", "fast"))
    assert {name: field.contents() for name, field in fast.fields.items()} == {
        name: field.contents() for name, field in slow.fields.items()
    }
    found = {tensor.name: tensor for tensor in fast.tensors}
    assert {name: one.tensor_type for name, one in found.items()} == {"weight": FAST, "norm": F32}
    np.testing.assert_array_equal(found["norm"].data, norm)
    step = np.abs(weight).max() / 8  # of a block with the largest value
    np.testing.assert_allclose(gguf.quants.dequantize(found["weight"].data, FAST), weight, atol=1.5 * step)
