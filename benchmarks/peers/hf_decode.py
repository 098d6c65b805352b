"""Generate with a library's `generate`: `hf_decode.py MODEL_FOLDER LIBRARY`.

Jobs are described in `benchmarks.support.generation_sides`.
Run by the interpreter of the optimum peer, or for transformers by the project's own.
"""

import os
import sys
import time
from importlib import import_module
from typing import Any

answer_by_methods = import_module("answering").answer_by_methods
torch, transformers = import_module("torch"), import_module("transformers")


def opened(folder: str, library: str) -> Any:
    """Return the model: in PyTorch, or exported to ONNX by optimum when it is opened."""
    if library == "transformers":
        return transformers.AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
    return import_module("optimum.onnxruntime").ORTModelForCausalLM.from_pretrained(folder, export=True)


class Writer:
    """A model."""

    def __init__(self, folder: str, library: str) -> None:
        torch.set_num_threads(len(os.sched_getaffinity(0)))
        self.model = opened(folder, library)

    def write(self, job: dict[str, Any]) -> dict[str, Any]:
        """Read prompts of one length, then generate `new` tokens more; return the seconds of both and the tokens."""
        rows, new, times = torch.tensor(job["rows"]), job["new"] + 1, []

        def clock(ids: Any, scores: Any, **_: Any) -> Any:
            times.append(time.perf_counter())
            return torch.zeros(len(ids), dtype=torch.bool)

        start = time.perf_counter()
        with torch.inference_mode():
            found = self.model.generate(
                input_ids=rows,
                attention_mask=torch.ones_like(rows),
                max_new_tokens=new,
                min_new_tokens=new,
                do_sample=False,
                stopping_criteria=transformers.StoppingCriteriaList([clock]),
            )
        tokens = found[:, rows.shape[1] :].tolist()
        return {"prefill": times[0] - start, "decode": times[-1] - times[0], "tokens": tokens}

    def score(self, job: dict[str, Any]) -> list[list[float]]:
        """Return the negative log-likelihood of every token after the first of each text, in nats."""
        losses = []
        with torch.inference_mode():
            for row in job["rows"]:
                logits = self.model(torch.tensor([row])).logits[0, :-1]
                loss = torch.nn.functional.cross_entropy(logits, torch.tensor(row[1:]), reduction="none")
                losses.append(loss.tolist())
        return losses


if __name__ == "__main__":
    answer_by_methods(lambda: Writer(*sys.argv[1:]))
