"""Run a classifier with OpenVINO: `openvino_classify.py MODEL_FILE [PRECISION]`.

PRECISION is a hint for fp32 operators, such as f32; without one they run in what OpenVINO takes by itself.
A job has the token inputs of a batch by name; the answer has the seconds of a run, and its logits.
Run by the interpreter of the openvino peer.
"""

import os
import sys
import time
from importlib import import_module
from typing import Any

answer = import_module("answering").answer


class Classifier:
    """A compiled model, in as many threads as there are usable cores."""

    def __init__(self, file: str, precision: str | None = None) -> None:
        threads = len(os.sched_getaffinity(0))
        self.clock = time.process_time if threads == 1 else time.perf_counter
        settings: dict[str, Any] = {"INFERENCE_NUM_THREADS": threads, "PERFORMANCE_HINT": "LATENCY"}
        if precision is not None:
            settings["INFERENCE_PRECISION_HINT"] = precision
        core = import_module("openvino").Core()
        self.request = core.compile_model(file, "CPU", settings).create_infer_request()

    def classify(self, job: dict[str, Any]) -> dict[str, Any]:
        """Return the seconds of a run on a batch, and the logits (batch, labels)."""
        numpy = import_module("numpy")
        feed = {name: numpy.array(rows, numpy.int64) for name, rows in job.items()}
        start = self.clock()
        found = self.request.infer(feed)
        seconds = self.clock() - start
        return {"seconds": seconds, "logits": next(iter(found.values())).tolist()}


if __name__ == "__main__":
    answer(Classifier(*sys.argv[1:]).classify)
