"""Convert a BERT classifier for CTranslate2: `ctranslate2_convert.py MODEL_FOLDER OUT_FOLDER`.

CTranslate2 runs the encoder and its pooler. The head, which it leaves to its user, and the tokenizer are written beside
them. Run by the interpreter of the ctranslate2 peer, which has none of this project.
"""

import shutil
import sys
from importlib import import_module
from pathlib import Path

HEAD = "head.npz"
TOKENIZER = "tokenizer.json"


def convert(model: Path, out: Path) -> None:
    """Write the encoder, the head and the tokenizer of the folder `model`."""
    # Only this peer's environment has it, and type checkers run in ours.
    import_module("ctranslate2").converters.TransformersConverter(str(model)).convert(str(out))
    weights = import_module("safetensors.numpy").load_file(model / "model.safetensors")
    import_module("numpy").savez(out / HEAD, weight=weights["classifier.weight"], bias=weights["classifier.bias"])
    shutil.copyfile(model / TOKENIZER, out / TOKENIZER)


if __name__ == "__main__":
    convert(*map(Path, sys.argv[1:]))
