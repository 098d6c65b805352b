"""Serve bundles on ONNX Runtime; this package imports neither torch nor transformers nor the rest of the project.

import serve

classifier = serve.Classifier("bundles/demo")
classifier(["It never arrived.", "Lovely!"], adapter=["intent", "tone"])

ONNX Runtime's telemetry is off. Its library reads the switch once, when it is loaded, so this package and those that
stand on it set it before any of their modules can import `onnxruntime`. A value that the environment already has is
kept: ORT_DISABLE_TELEMETRY=0 turns telemetry on. A program that imports `onnxruntime` before `serve` has to set it.
"""

import os
from importlib import import_module
from typing import Any

os.environ["ORT_DISABLE_TELEMETRY"] = os.environ.get("ORT_DISABLE_TELEMETRY") or "1"

HOMES = {
    "AsyncClassifier": "serve.classification.async_classifier",
    "AsyncGenerator": "serve.generation.async_text_generator",
    "Classifier": "serve.classification.classifier",
    "CompileBudget": "serve.schema_trials",
    "Generator": "serve.generation.generator",
    "Limits": "serve.classification.batcher",
    "Pool": "serve.generation.limits",
    "Prediction": "serve.classification.prediction",
    "Sampling": "serve.generation.sampling.params",
    "Written": "serve.generation.result",
}
"""What a program imports from here, and the module that it comes from, which is imported when it is asked for."""
__all__ = sorted(HOMES)


def __getattr__(name: str) -> Any:
    if name not in HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(HOMES[name]), name)
