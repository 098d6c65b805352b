import numpy as np

from adamix_export.precision.block_quantization import QuantizedBlocks, quantize_blocks
from adamix_export.precision.gptq import gptq_blocks


def test_calibrated_rounding_answers_closer_for_the_states_it_knows() -> None:
    """States that move together, as those of a layer do: rounding to the nearest values does not look at them."""
    random = np.random.default_rng(0)
    states = (random.normal(size=(400, 8)) @ random.normal(size=(8, 64)) + 0.1 * random.normal(size=(400, 64))).astype(
        np.float32
    )
    weight = random.normal(size=(48, 64)).astype(np.float32)
    expected = states @ weight.T

    def error(blocks: QuantizedBlocks) -> float:
        values = np.stack([blocks.values & 15, blocks.values >> 4], -1).reshape(48, 2, 32).astype(np.float32) - 8
        return float(np.square(states @ (values * blocks.scales[..., None]).reshape(48, 64).T - expected).mean())

    calibrated = error(gptq_blocks(weight, states.T @ states, bits=4, size=32))
    assert calibrated < 0.4 * error(quantize_blocks(weight, bits=4, size=32))
