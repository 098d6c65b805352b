"""The proof that a decoder's steps can be captured in CUDA graphs, before the first text depends on it."""

import numpy as np

from serve.errors import first_line
from serve.generation.model_runner import ModelRunner
from serve.generation.static_batch import StaticRow
from serve.loaded_model import LoadedModel

PROMPT = (0, 1, 2, 1)
"""Tokens that are read before the step; every vocabulary has them."""
TOLERANCE = 0.02
"""Largest difference of a logit between a replayed step and one that is not captured, as a share of the largest."""


def checked(model: LoadedModel) -> LoadedModel:
    """Return a model whose steps are captured only if a replayed one gives the logits of one that is not.

    Where they are not, the reason is logged.
    """
    if not model.captures:
        return model
    try:
        difference = _difference(model)
    except Exception as error:  # ONNX Runtime's exceptions share no base class
        model.stop_capturing(first_line(error))
        return model
    if not difference <= TOLERANCE:
        model.stop_capturing(f"logits of a replayed step differ by {difference:.3f} of the largest")
    return model


def _difference(model: LoadedModel) -> float:
    """Return the largest difference of a logit between both, as a share of the largest; NaN where one is none."""
    source = list(PROMPT) if model.encoder is not None else []
    row = StaticRow(source=source, slot=0, total_tokens=len(PROMPT))
    runner = ModelRunner(model, max_tokens=4 * len(PROMPT))
    runner.reserve(1, tokens=2 * len(PROMPT), source_tokens=len(source))
    runner.encode([row], first=0)
    runner.run([PROMPT], [row], first=0)
    row.total_tokens += 1
    expected = runner.run([PROMPT[:1]], [row], first=0).all()
    for _ in range(2):  # the first run is captured, the second replays it
        found = runner.run([PROMPT[:1]], [row], first=0, behind=()).all()
    return float(np.abs(found - expected).max() / np.abs(expected).max())
