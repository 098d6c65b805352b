"""Generate with llama.cpp's server: `llama_decode.py MODEL.gguf`, with a slot for each row, which it batches.

Jobs are as `benchmarks.support.generation_sides` has them, but that only the whole is timed, and that the tokens, which
the server does not tell, are counted. Run by the interpreter of the llama peer, which has none of this project.
"""

import os
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from importlib import import_module
from typing import Any

answer_by_methods = import_module("answering").answer_by_methods
MOST_ROWS, LONGEST = 32, 640


class Writer:
    """A model behind llama.cpp's server, in as many threads as there are usable cores."""

    def __init__(self, file: str) -> None:
        llama = import_module("xllamacpp")
        params = llama.CommonParams()
        params.model.path, params.n_parallel, params.n_ctx = file, MOST_ROWS, MOST_ROWS * LONGEST
        params.cpuparams.n_threads = params.cpuparams_batch.n_threads = len(os.sched_getaffinity(0))
        params.n_threads_http, params.cache_prompt, params.cache_ram_mib = MOST_ROWS + 2, False, 0
        self.server = llama.Server(params)

    def write(self, job: dict[str, Any]) -> dict[str, Any]:
        """Read prompts, and generate `1 + new` tokens for each; return the seconds of the whole."""
        with ThreadPoolExecutor(len(job["rows"])) as pool:
            start = time.perf_counter()
            found = list(pool.map(lambda row: self.ask(row, job["new"] + 1), job["rows"]))
            return {"whole": time.perf_counter() - start, "generated": found}

    def ask(self, row: list[int], count: int) -> int:
        """Return the number of tokens that the server has generated after a prompt; it is asked for `count`."""
        settings = {"max_tokens": count, "temperature": 0.0, "ignore_eos": True, "cache_prompt": False}
        found = self.server.handle_completions({"prompt": row, **settings})
        if "error" in found:
            raise RuntimeError(found["error"]["message"])
        generated: int = found["usage"]["completion_tokens"]
        if generated != count:
            raise RuntimeError(f"{generated} tokens were generated, not {count}")
        return generated


if __name__ == "__main__":
    answer_by_methods(lambda: Writer(sys.argv[1]))
