"""Serve an ONNX classifier with LitServe and its own batching: `litserve_server.py MODEL.onnx TOKENIZER.json PORT`.

Run by the interpreter of the litserve peer, which has none of this project. POST /predict {"input": "a text"} gives
{"logits": […]}. Batches are of at most 32 texts that came within 5 ms, padded to the longest.
"""

import os
import sys
from importlib import import_module
from typing import Any

import numpy as np

BATCH, WAIT, MAX_LENGTH = 32, 0.005, 128
# Only this peer's environment has it, and type checkers run in ours.
litserve = import_module("litserve")


class Api(litserve.LitAPI):  # type: ignore[name-defined]
    """Texts in, logits out."""

    def setup(self, device: str) -> None:
        """Open the graph and the tokenizer, on as many threads as there are cores."""
        import onnxruntime
        from tokenizers import Tokenizer

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = len(os.sched_getaffinity(0))
        self.session = onnxruntime.InferenceSession(sys.argv[1], options, providers=["CPUExecutionProvider"])
        self.tokenizer = Tokenizer.from_file(sys.argv[2])
        self.tokenizer.enable_truncation(MAX_LENGTH)
        self.tokenizer.enable_padding()

    def decode_request(self, request):  # type: ignore[no-untyped-def]  # noqa: ANN001, ANN201
        """Return the text of a request; LitServe would take an annotation for a type of request."""
        return str(request["input"])

    def batch(self, inputs: list[str]) -> list[str]:
        """Return the texts of a batch."""
        return inputs

    def predict(self, texts: Any) -> Any:
        """Return logits (batch, labels)."""
        found = self.tokenizer.encode_batch([texts] if isinstance(texts, str) else texts)
        feeds = {
            "input_ids": np.array([one.ids for one in found], np.int64),
            "attention_mask": np.array([one.attention_mask for one in found], np.int64),
            "token_type_ids": np.array([one.type_ids for one in found], np.int64),
        }
        return self.session.run(["logits"], feeds)[0]

    def unbatch(self, output: Any) -> list[Any]:
        """Return the logits of each row."""
        return list(output)

    def encode_response(self, output: Any) -> dict[str, list[float]]:
        """Return the answer to a request."""
        return {"logits": output.ravel().tolist()}


if __name__ == "__main__":
    server = litserve.LitServer(Api(max_batch_size=BATCH, batch_timeout=WAIT), accelerator="cpu", workers_per_device=1)
    server.run(port=int(sys.argv[3]), host="127.0.0.1", log_level="warning", generate_client_file=False)
