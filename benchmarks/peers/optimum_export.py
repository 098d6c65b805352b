"""Export a classifier with optimum, O2-optimised for ONNX Runtime: `optimum_export.py MODEL_FOLDER OUT_FOLDER`.

Run by the interpreter of the optimum peer, which has none of this project. It writes OUT_FOLDER/model_optimized.onnx.
"""

import sys
from importlib import import_module


def export(model: str, out: str) -> None:
    """Write the ONNX file of the classifier in folder `model`, as optimum's documentation does."""
    # Only this peer's environment has it, and type checkers run in ours.
    optimum = import_module("optimum.onnxruntime")
    exported = optimum.ORTModelForSequenceClassification.from_pretrained(model, export=True)
    optimizer = optimum.ORTOptimizer.from_pretrained(exported)
    optimizer.optimize(save_dir=out, optimization_config=optimum.AutoOptimizationConfig.O2())


if __name__ == "__main__":
    export(*sys.argv[1:])
