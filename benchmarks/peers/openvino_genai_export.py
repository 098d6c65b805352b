"""Convert a decoder to OpenVINO with optimum-intel: `openvino_genai_export.py MODEL_FOLDER OUT_FOLDER [PRECISION]`.

Run by the interpreter of the openvino_genai peer, which has none of this project. Weights in int4 are symmetric, in
groups of 64, with the embeddings and the head in 8 bits, which is what optimum-intel does by itself.
"""

import sys
from importlib import import_module


def export(model: str, out: str, precision: str = "fp32") -> None:
    """Write the decoder in folder `model`, with its weights in `precision`: fp32 or int4."""
    # Only this peer's environment has it, and type checkers run in ours.
    intel = import_module("optimum.intel")
    int4 = intel.OVWeightQuantizationConfig(bits=4, sym=True, group_size=64) if precision == "int4" else None
    made = intel.OVModelForCausalLM.from_pretrained(
        model, export=True, compile=False, load_in_8bit=False, quantization_config=int4
    )
    made.save_pretrained(out)


if __name__ == "__main__":
    export(*sys.argv[1:])
