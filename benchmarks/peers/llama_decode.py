"""Generate with llama.cpp: `llama_decode.py MODEL.gguf`, jobs as `benchmarks.support.generation_sides` has them.

Run by the interpreter of the llama peer, which has none of this project.
"""

import ctypes
import os
import sys
import time
from importlib import import_module
from typing import Any

llama, np = import_module("llama_cpp"), import_module("numpy")
answer = import_module("answering").answer
MOST_ROWS, MOST_TOKENS = 16, 16 * 640


class Writer:
    """A model and one context, on as many threads as there are cores."""

    def __init__(self, file: str) -> None:
        llama.llama_backend_init()
        self.model = llama.llama_model_load_from_file(file.encode(), llama.llama_model_default_params())
        params = llama.llama_context_default_params()
        params.n_ctx, params.n_batch, params.n_ubatch, params.n_seq_max = MOST_TOKENS, 2048, 512, MOST_ROWS
        params.n_threads = params.n_threads_batch = len(os.sched_getaffinity(0))
        self.context = llama.llama_init_from_model(self.model, params)
        self.size = llama.llama_vocab_n_tokens(llama.llama_model_get_vocab(self.model))
        self.batch = llama.llama_batch_init(2048, 0, 1)

    def write(self, job: dict[str, Any]) -> dict[str, Any]:
        """Read prompts of one length, then generate `new` tokens more; return the seconds of both and the tokens."""
        rows, new = job["rows"], job["new"]
        llama.llama_memory_clear(llama.llama_get_memory(self.context), True)
        length = len(rows[0])
        start = time.perf_counter()
        newest = [self.run([row], 0, [index])[0] for index, row in enumerate(rows)]
        first = time.perf_counter()
        tokens = [[token] for token in newest]
        for step in range(new):
            newest = self.run([[token] for token in newest], length + step, range(len(rows)))
            for row, token in zip(tokens, newest, strict=True):
                row.append(token)
        end = time.perf_counter()
        return {"prefill": first - start, "decode": end - first, "tokens": tokens}

    def run(self, rows: Any, position: int, sequences: Any) -> list[int]:
        """Run tokens of rows from a position on; return the likeliest token after each."""
        batch, count, last = self.batch, 0, []
        for row, sequence in zip(rows, sequences, strict=True):
            for offset, token in enumerate(row):
                batch.token[count], batch.pos[count] = token, position + offset
                batch.n_seq_id[count], batch.seq_id[count][0] = 1, sequence
                batch.logits[count] = offset + 1 == len(row)
                count += 1
            last.append(count - 1)
        batch.n_tokens = count
        if llama.llama_decode(self.context, batch):
            raise RuntimeError("llama_decode failed")
        return [self.likeliest(place) for place in last]

    def likeliest(self, place: int) -> int:
        """Return the likeliest token after one of a batch's."""
        pointer = llama.llama_get_logits_ith(self.context, place)
        logits = np.ctypeslib.as_array(ctypes.cast(pointer, ctypes.POINTER(ctypes.c_float)), shape=(self.size,))
        return int(logits.argmax())


if __name__ == "__main__":
    writer = Writer(sys.argv[1])
    answer(lambda job: getattr(writer, job["do"])(job))
