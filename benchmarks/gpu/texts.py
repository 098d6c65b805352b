"""Texts of real lengths: SST-2's sentences where they are at hand, made-up words of the same lengths elsewhere."""

import json

import numpy as np

from benchmarks.gpu.setting import Setting
from benchmarks.support.errors import BenchmarkError

COUNT = 2000
TINY_COUNT = 24
FILE = "texts.json"
SST2, MADE_UP = "SST-2's sentences", "made-up words of SST-2's lengths"
MEAN, DEVIATION, LONGEST = 2.78, 0.57, 53
"""Logarithm of SST-2's words in a sentence: mean and standard deviation; and most words."""


def write_texts(setting: Setting) -> str:
    """Write the texts, and return where they are from."""
    try:
        if setting.tiny:
            raise BenchmarkError("a rehearsal needs no real texts")
        from benchmarks.support.bundles import sentences

        texts, origin = sentences(COUNT), SST2
    except BenchmarkError:
        texts, origin = made_up(TINY_COUNT if setting.tiny else COUNT), MADE_UP
    content = {"origin": origin, "texts": texts}
    (setting.folder / FILE).write_text(json.dumps(content, ensure_ascii=False) + "\n", "utf-8")
    return origin


def read_texts(setting: Setting) -> tuple[str, list[str]]:
    """Return where the texts are from, and the texts."""
    content = json.loads((setting.folder / FILE).read_text("utf-8"))
    return content["origin"], content["texts"]


def made_up(count: int) -> list[str]:
    """Return texts of words, as many in each as a sentence of SST-2 may have."""
    random = np.random.default_rng(0)
    lengths = np.clip(random.lognormal(MEAN, DEVIATION, count), 1, LONGEST).astype(int)
    return [" ".join(f"w{word}" for word in random.integers(0, 200, length)) for length in lengths]
