"""Classify with optimum: `optimum_logits.py FOLDER TEXTS OUT`; run by the interpreter of its peer.

TEXTS is a list in JSON; OUT gets the logits, the labels, and every text's label by transformers' pipeline.
"""

import json
import sys
from importlib import import_module
from pathlib import Path


def main(folder, texts, out):
    transformers = import_module("transformers")
    model = import_module("optimum.onnxruntime").ORTModelForSequenceClassification.from_pretrained(folder)
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    texts = json.loads(Path(texts).read_text())
    logits = model(**tokenizer(texts, padding=True, truncation=True, return_tensors="pt")).logits
    pipeline = transformers.pipeline("text-classification", model=model, tokenizer=tokenizer)
    found = {
        "logits": logits.tolist(),
        "labels": list(model.config.id2label.values()),
        "chosen": [answer["label"] for answer in pipeline(texts, truncation=True)],
    }
    Path(out).write_text(json.dumps(found))


if __name__ == "__main__":
    main(*sys.argv[1:])
