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
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from serve.bundle.reader import open_bundle
    from serve.classification.async_classifier import AsyncClassifier
    from serve.classification.classifier import Classifier
    from serve.engines import make_engine, make_engines
    from serve.generated_text import FinishReason, GenerationResult
    from serve.generation.async_text_generator import AsyncTextGenerator
    from serve.generation.generator import Generator
    from serve.generation.sampling.schema_trials import CompileBudget
    from serve.limits import BatchLimits, GenerationLimits
    from serve.prediction import Prediction
    from serve.sampling_params import SamplingParams

os.environ["ORT_DISABLE_TELEMETRY"] = os.environ.get("ORT_DISABLE_TELEMETRY") or "1"

EXPORTS = {
    "AsyncClassifier": "serve.classification.async_classifier",
    "AsyncTextGenerator": "serve.generation.async_text_generator",
    "BatchLimits": "serve.limits",
    "CompileBudget": "serve.generation.sampling.schema_trials",
    "Classifier": "serve.classification.classifier",
    "FinishReason": "serve.generated_text",
    "GenerationLimits": "serve.limits",
    "GenerationResult": "serve.generated_text",
    "Generator": "serve.generation.generator",
    "Prediction": "serve.prediction",
    "SamplingParams": "serve.sampling_params",
    "make_engine": "serve.engines",
    "make_engines": "serve.engines",
    "open_bundle": "serve.bundle.reader",
}
"""Public names and their modules, which are imported on first use."""
__all__ = [
    "AsyncClassifier",
    "AsyncTextGenerator",
    "BatchLimits",
    "Classifier",
    "CompileBudget",
    "FinishReason",
    "GenerationLimits",
    "GenerationResult",
    "Generator",
    "Prediction",
    "SamplingParams",
    "make_engine",
    "make_engines",
    "open_bundle",
]


def __getattr__(name: str) -> Any:
    if name not in EXPORTS:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(EXPORTS[name]), name)
