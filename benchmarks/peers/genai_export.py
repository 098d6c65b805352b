"""Write a decoder's ONNX graph with onnxruntime-genai's builder: `genai_export.py MODEL_FOLDER OUT_FOLDER [PRECISION]`.

Run by the interpreter of the genai peer, which has none of this project.
"""

import runpy
import sys


def export(model: str, out: str, precision: str = "fp32") -> None:
    """Write the graph of the decoder in folder `model`, for the CPU, as the builder's command line does."""
    builder = "onnxruntime_genai.models.builder"
    sys.argv = [builder, "-i", model, "-o", out, "-p", precision, "-e", "cpu"]
    runpy.run_module(builder, run_name="__main__")


if __name__ == "__main__":
    export(*sys.argv[1:])
