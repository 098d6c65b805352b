"""Classify texts with infinity-emb without its server: `infinity_classify.py MODEL_FOLDER`.

It runs its optimum engine at its defaults. A job has `texts`; the answer has the seconds that they took, and the
logarithms of their probabilities as `logits` (texts, labels). Run by the interpreter of the infinity peer, which has
none of this project.
"""

import asyncio
import json
import os
import sys
import time
from importlib import import_module
from pathlib import Path
from typing import Any

answer_once_made = import_module("answering").answer_once_made
SETTINGS = {"DO_NOT_TRACK": "1", "HF_HUB_OFFLINE": "1", "INFINITY_LOG_LEVEL": "warning"}


class Classifier:
    """An engine with its own batching, on an event loop of its own between jobs.

    Its warm-up is left out, as it sends more tokens than a BERT has positions.
    """

    def __init__(self, folder: Path) -> None:
        os.environ.update(SETTINGS)
        infinity = import_module("infinity_emb")
        self.numpy = import_module("numpy")
        names = json.loads((folder / "config.json").read_text())["id2label"]
        self.labels = [names[str(index)] for index in range(len(names))]
        arguments = infinity.EngineArgs(
            model_name_or_path=str(folder), engine="optimum", device="cpu", model_warmup=False
        )
        self.engine = infinity.AsyncEmbeddingEngine.from_args(arguments)
        self.loop = asyncio.new_event_loop()
        self.loop.run_until_complete(self.engine.astart())

    def classify(self, job: dict[str, Any]) -> dict[str, Any]:
        """Return the seconds that texts took, and the logarithms of their probabilities."""
        start = time.perf_counter()
        found, _ = self.loop.run_until_complete(self.engine.classify(sentences=job["texts"]))
        seconds = time.perf_counter() - start
        scores = [{one["label"]: one["score"] for one in text} for text in found]
        logits = self.numpy.log([[text[label] for label in self.labels] for text in scores])
        return {"seconds": seconds, "logits": logits.tolist()}


if __name__ == "__main__":
    answer_once_made(lambda: Classifier(Path(sys.argv[1])).classify)
