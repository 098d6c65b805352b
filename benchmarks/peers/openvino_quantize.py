"""Convert a classifier to OpenVINO, in fp32 and in int8: `openvino_quantize.py MODEL_FOLDER OUT_FOLDER`.

Run by the interpreter of the openvino peer, which has none of this project. It writes OUT_FOLDER/fp32.xml and, as NNCF
quantises transformers, OUT_FOLDER/int8.xml.
"""

import sys
from importlib import import_module
from pathlib import Path
from typing import Any

TEXTS, LENGTH, SEED = 64, 32, 1
"""Texts of random tokens that int8 is calibrated on, as those that are timed are."""


def convert(model: str, out: str) -> None:
    """Write the classifier in folder `model` in both precisions."""
    # Only this peer's environment has them, and type checkers run in ours.
    openvino, nncf, transformers = (import_module(name) for name in ("openvino", "nncf", "transformers"))
    loaded = transformers.AutoModelForSequenceClassification.from_pretrained(model).eval()
    texts = random_texts(loaded.config.vocab_size)
    exact = openvino.convert_model(loaded, example_input=texts[0])
    Path(out).mkdir()
    openvino.save_model(exact, f"{out}/fp32.xml", compress_to_fp16=False)
    arrays = [{name: ids.numpy() for name, ids in text.items()} for text in texts]
    quantised = nncf.quantize(
        exact, nncf.Dataset(arrays), model_type=nncf.ModelType.TRANSFORMER, subset_size=len(arrays)
    )
    openvino.save_model(quantised, f"{out}/int8.xml", compress_to_fp16=False)


def random_texts(vocabulary: int) -> list[dict[str, Any]]:
    """Return inputs of one text each, of tokens drawn over the whole vocabulary."""
    torch = import_module("torch")
    draw = torch.Generator().manual_seed(SEED)
    rows = [torch.randint(vocabulary, (1, LENGTH), generator=draw) for _ in range(TEXTS)]
    return [
        {"input_ids": ids, "attention_mask": torch.ones_like(ids), "token_type_ids": torch.zeros_like(ids)}
        for ids in rows
    ]


if __name__ == "__main__":
    convert(*sys.argv[1:])
