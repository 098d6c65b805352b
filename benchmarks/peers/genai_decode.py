"""Generate with onnxruntime-genai: `genai_decode.py FOLDER`, jobs as `benchmarks.support.generation_sides` has them.

Run by the interpreter of the genai peer, which has none of this project.
"""

import sys
import time
from importlib import import_module
from pathlib import Path
from typing import Any

og, np = import_module("onnxruntime_genai"), import_module("numpy")
answer_by_methods = import_module("answering").answer_by_methods


class Writer:
    """A model."""

    def __init__(self, folder: str) -> None:
        self.folder, self.model = folder, og.Model(folder)
        self.adapters = og.Adapters(self.model)
        self.loaded: set[str] = set()

    def write(self, job: dict[str, Any]) -> dict[str, Any]:
        """Read prompts of one length, then generate `new` tokens more; return the seconds of both and the tokens."""
        rows, new = np.array(job["rows"], np.int32), job["new"]
        start = time.perf_counter()
        generator = self.begin(rows, rows.shape[1] + new + 1, job.get("adapter"))
        first = time.perf_counter()
        for _ in range(new):
            generator.generate_next_token()
        end = time.perf_counter()
        tokens = [generator.get_sequence(row)[rows.shape[1] :].tolist() for row in range(len(rows))]
        return {"prefill": first - start, "decode": end - first, "tokens": tokens}

    def begin(self, rows: Any, longest: int, adapter: str | None = None) -> Any:
        """Return a generator that has produced the first token of every row; no row ends before `longest`."""
        params = og.GeneratorParams(self.model)
        params.set_search_options(max_length=longest, min_length=longest, batch_size=len(rows), do_sample=False)
        generator = og.Generator(self.model, params)
        if adapter:
            if adapter not in self.loaded:
                self.adapters.load(str(Path(self.folder) / f"{adapter}.onnx_adapter"), adapter)
                self.loaded.add(adapter)
            generator.set_active_adapter(self.adapters, adapter)
        generator.append_tokens(rows)
        generator.generate_next_token()
        return generator

    def serve(self, job: dict[str, Any]) -> list[dict[str, float]]:
        """Answer requests that arrive over time, in batches of those that wait, at most `batch`.

        A batch runs until its longest text is done. Returns for each request when it had its first token and all of
        its own, in seconds after the start.
        """
        requests = job["requests"]
        done: list[dict[str, float]] = []
        start = time.perf_counter()
        while len(done) < len(requests):
            waiting = requests[len(done) : len(done) + job["batch"]]
            time.sleep(max(0.0, start + waiting[0]["at"] - time.perf_counter()))
            now = time.perf_counter() - start
            batch = [request for request in waiting if request["at"] <= now]
            longest = max(len(request["ids"]) for request in batch)
            rows = np.full((len(batch), longest), job["pad"], np.int32)
            for row, request in zip(rows, batch, strict=True):
                row[: len(request["ids"])] = request["ids"]
            new = max(request["new"] for request in batch)
            generator = self.begin(rows, longest + new)
            times = [time.perf_counter() - start]
            for _ in range(new - 1):
                generator.generate_next_token()
                times.append(time.perf_counter() - start)
            done += [{"first": times[0], "end": times[request["new"] - 1]} for request in batch]
        return done


if __name__ == "__main__":
    answer_by_methods(lambda: Writer(sys.argv[1]))
