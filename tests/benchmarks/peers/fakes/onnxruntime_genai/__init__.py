"""onnxruntime-genai over a model that counts: each token is the one before it plus a step.

The step is 1; an adapter's file holds another. Token 0 ends a text, and comes as soon as `min_length` lets it.
"""

from pathlib import Path
from typing import Any

import numpy as np


class Model:
    def __init__(self, folder: str) -> None:
        if not (Path(folder) / "genai_config.json").is_file():
            raise RuntimeError(f"{folder} has no genai_config.json")


class Adapters:
    def __init__(self, model: Model) -> None:
        self.steps: dict[str, int] = {}

    def load(self, file: str, name: str) -> None:
        if name in self.steps:
            raise RuntimeError(f"{name} is loaded already")
        self.steps[name] = int(Path(file).read_text())


class GeneratorParams:
    def __init__(self, model: Model) -> None:
        self.options: dict[str, Any] = {}

    def set_search_options(self, **options: Any) -> None:
        self.options |= options


class Generator:
    def __init__(self, model: Model, params: GeneratorParams) -> None:
        self.options, self.step = params.options, 1

    def set_active_adapter(self, adapters: Adapters, name: str) -> None:
        self.step = adapters.steps[name]

    def append_tokens(self, rows: Any) -> None:
        if len(rows) != self.options["batch_size"]:
            raise RuntimeError(f"{len(rows)} rows, but a batch of {self.options['batch_size']}")
        self.rows = rows

    def generate_next_token(self) -> None:
        length = self.rows.shape[1]
        if length == self.options["max_length"]:
            raise RuntimeError(f"more than {length} tokens")
        token = self.rows[:, -1:] + self.step if length < self.options["min_length"] else 0 * self.rows[:, -1:]
        self.rows = np.concatenate([self.rows, token], 1)

    def get_sequence(self, row: int) -> Any:
        return self.rows[row]
