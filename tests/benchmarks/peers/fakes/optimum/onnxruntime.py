"""optimum's models and optimizer, which write down what they are asked for."""

import json
from pathlib import Path
from typing import Self


class ORTModelForCausalLM:
    def __init__(self, folder: str, export: bool) -> None:
        self.folder, self.export = folder, export

    @classmethod
    def from_pretrained(cls, folder: str, *, export: bool = False) -> Self:
        return cls(folder, export)


class ORTModelForSequenceClassification(ORTModelForCausalLM):
    pass


class AutoOptimizationConfig:
    @staticmethod
    def O2() -> str:
        return "O2"


class ORTOptimizer:
    def __init__(self, model: ORTModelForSequenceClassification) -> None:
        self.model = model

    @classmethod
    def from_pretrained(cls, model: ORTModelForSequenceClassification) -> Self:
        return cls(model)

    def optimize(self, *, save_dir: str, optimization_config: str) -> None:
        Path(save_dir).mkdir()
        made = {"class": type(self.model).__name__, **vars(self.model), "level": optimization_config}
        (Path(save_dir) / "model_optimized.onnx").write_text(json.dumps(made))
