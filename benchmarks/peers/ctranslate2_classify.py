"""Classify texts with CTranslate2: `ctranslate2_classify.py FOLDER COMPUTE_TYPE MAX_LENGTH`.

FOLDER is one that `ctranslate2_convert.py` wrote, COMPUTE_TYPE float32 or int8. A job has `texts`; the answer has the
seconds that they took, tokenizing included, and their `logits`. Batches are of 32 texts of like length. Run by the
interpreter of the ctranslate2 peer.
"""

import os
import sys
import time
from importlib import import_module
from pathlib import Path
from typing import Any

answer = import_module("answering").answer
BATCH = 32


class Classifier:
    """An encoder in as many threads as there are usable cores, and a head."""

    def __init__(self, folder: Path, compute_type: str, max_length: int) -> None:
        self.numpy = import_module("numpy")
        self.encoder = import_module("ctranslate2").Encoder(
            str(folder), device="cpu", compute_type=compute_type, intra_threads=len(os.sched_getaffinity(0))
        )
        self.tokenizer = import_module("tokenizers").Tokenizer.from_file(str(folder / "tokenizer.json"))
        self.tokenizer.enable_truncation(max_length)
        self.tokenizer.no_padding()
        self.head = dict(self.numpy.load(folder / "head.npz"))

    def classify(self, job: dict[str, Any]) -> dict[str, Any]:
        """Return the seconds that texts took, and their logits (texts, labels)."""
        start = time.perf_counter()
        logits = self.logits(job["texts"])
        return {"seconds": time.perf_counter() - start, "logits": logits.tolist()}

    def logits(self, texts: list[str]) -> Any:
        """Return the logits of texts, which are run in the order of their lengths."""
        ids = [encoding.ids for encoding in self.tokenizer.encode_batch(texts)]
        order = sorted(range(len(ids)), key=lambda index: len(ids[index]))
        found = self.numpy.empty((len(ids), len(self.head["bias"])), self.numpy.float32)
        for start in range(0, len(order), BATCH):
            batch = order[start : start + BATCH]
            pooled = self.numpy.array(self.encoder.forward_batch([ids[index] for index in batch]).pooler_output)
            found[batch] = pooled @ self.head["weight"].T + self.head["bias"]
        return found


if __name__ == "__main__":
    folder, compute_type, max_length = sys.argv[1:]
    answer(Classifier(Path(folder), compute_type, int(max_length)).classify)
