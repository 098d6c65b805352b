import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from adamix_export.precision.block_quantization import quantize_blocks
from tests.adamix_export.precision.matrices import matrices


@settings(deadline=None, max_examples=60)
@given(matrices, st.sampled_from([4, 8]))
def test_blocks_hold_every_value_to_one_step(weight: np.ndarray, bits: int) -> None:
    """A value is off by half a step, or by one where the other extreme of its block is cut; 4 bits may cut more."""
    blocks = quantize_blocks(weight, bits=bits, size=32)
    values = blocks.values
    if bits == 4:
        values = np.stack([values & 15, values >> 4], -1).reshape(*values.shape[:2], -1)
    steps = np.abs(blocks.scales)[..., None]
    found = (values.astype(np.float32) - (1 << bits - 1)) * blocks.scales[..., None]
    wanted = np.pad(weight, ((0, 0), (0, found[0].size - weight.shape[1]))).reshape(found.shape)
    cut = {4: 2.5, 8: 1.0}[bits]
    assert (np.abs(found - wanted) <= cut * steps + 1e-5).all()
    assert blocks.scales.shape == (len(weight), -(-weight.shape[1] // 32))
