"""Write a decoder's ONNX graph with onnxruntime-genai's builder: `genai_export.py MODEL_FOLDER OUT_FOLDER`, in fp32.

Run by the interpreter of the genai peer, which has none of this project.
"""

import sys
import tempfile
from importlib import import_module


def export(model: str, out: str) -> None:
    """Write the graph of the decoder in folder `model`, for the processor."""
    # Only this peer's environment has it, and type checkers run in ours.
    builder = import_module("onnxruntime_genai.models.builder")
    with tempfile.TemporaryDirectory() as cache:
        builder.create_model("", model, out, "fp32", "cpu", cache)


if __name__ == "__main__":
    export(*sys.argv[1:])
