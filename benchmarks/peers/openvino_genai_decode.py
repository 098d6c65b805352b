"""Generate with openvino-genai: `openvino_genai_decode.py FOLDER [PRECISION] [--adapters FOLDER]`.

Jobs are as `benchmarks.support.generation_sides` has them; it batches continuously. PRECISION is a hint of OpenVINO,
such as f32; without one it computes in the precision that it takes by itself. FOLDER has PEFT checkpoints by name, of
which all rows of a job take one. Run by the interpreter of the openvino_genai peer, which has none of this project.
"""

import os
import time
from importlib import import_module
from pathlib import Path
from typing import Any

answering = import_module("answering")
MOST_ROWS = 64
MOST_TOKENS = 2048
"""Tokens of a step: all prompts are read in the first."""
CACHE_GIB = 1


class Writer:
    """A model behind a pipeline with continuous batching, in as many threads as there are usable cores."""

    def __init__(self, folder: str, precision: str | None = None, adapters: Path | None = None) -> None:
        self.numpy, self.openvino, self.genai = map(import_module, ("numpy", "openvino", "openvino_genai"))
        scheduling = self.genai.SchedulerConfig()
        scheduling.max_num_batched_tokens, scheduling.max_num_seqs = MOST_TOKENS, MOST_ROWS
        scheduling.cache_size, scheduling.enable_prefix_caching = CACHE_GIB, False
        settings: dict[str, Any] = {"INFERENCE_NUM_THREADS": len(os.sched_getaffinity(0))}
        if precision is not None:
            settings["INFERENCE_PRECISION_HINT"] = precision
        files = sorted(adapters.glob("*/adapter_model.safetensors")) if adapters else []
        self.adapters = {file.parent.name: self.genai.Adapter(file) for file in files}
        if self.adapters:
            settings["adapters"] = self.genai.AdapterConfig(list(self.adapters.values()))
        self.folder, self.settings = folder, settings
        self.pipeline = self.genai.ContinuousBatchingPipeline(
            folder, scheduler_config=scheduling, device="CPU", properties=settings
        )

    def write(self, job: dict[str, Any]) -> dict[str, Any]:
        """Read prompts of one length, then generate `new` tokens more; return the seconds of both and the tokens."""
        if "adapter" in job:
            return self.write_adapted(job)
        start = time.perf_counter()
        handles = [self.begin(number, row, job["new"] + 1) for number, row in enumerate(job["rows"])]
        while not all(handle.can_read() for handle in handles):
            self.pipeline.step()
        first = time.perf_counter()
        while self.pipeline.has_non_finished_requests():
            self.pipeline.step()
        end = time.perf_counter()
        tokens = [[int(token) for token in handle.read_all()[0].generated_ids] for handle in handles]
        return {"prefill": first - start, "decode": end - first, "tokens": tokens}

    def write_adapted(self, job: dict[str, Any]) -> dict[str, Any]:
        """Do a job through an adapter; return the seconds of the whole and the tokens.

        Requests that are added to the pipeline one by one are answered without their adapter.
        """
        asked = self.asked(job["new"] + 1)
        asked.adapters = self.genai.AdapterConfig(self.adapters[job["adapter"]], 1.0)
        prompts = [self.prompt(row) for row in job["rows"]]
        start = time.perf_counter()
        found = self.pipeline.generate(prompts, [asked] * len(prompts))
        seconds = time.perf_counter() - start
        return {"whole": seconds, "tokens": [[int(token) for token in one.m_generation_ids[0]] for one in found]}

    def serve(self, job: dict[str, Any]) -> list[dict[str, float]]:
        """Answer requests that arrive over time, ordered by their arrival, between two steps.

        Returns for each request when it had its first token and all of its own, in seconds after the start.
        """
        coming = list(enumerate(job["requests"]))
        done: list[dict[str, float]] = [{} for _ in coming]
        running: dict[int, Any] = {}
        start = time.perf_counter()
        while coming or running:
            while coming and coming[0][1]["at"] <= time.perf_counter() - start:
                number, request = coming.pop(0)
                running[number] = self.begin(number, request["ids"], request["new"])
            if not running:
                time.sleep(max(0.0, start + coming[0][1]["at"] - time.perf_counter()))
                continue
            self.pipeline.step()
            now = time.perf_counter() - start
            for number, handle in list(running.items()):
                if handle.can_read():
                    done[number].setdefault("first", now)
                if handle.get_status().name != "RUNNING":
                    done[number]["end"] = now
                    del running[number]
        return done

    def score(self, job: dict[str, Any]) -> list[list[float]]:
        """Return the negative log-likelihood of every token after the first of each text, in nats.

        The pipeline gives no logits: the same model is compiled without it.
        """
        compiled = self.openvino.Core().compile_model(f"{self.folder}/openvino_model.xml", "CPU", self.settings)
        request, losses = compiled.create_infer_request(), []
        for row in job["rows"]:
            request.reset_state()
            ids = self.numpy.array([row], self.numpy.int64)
            read = {
                "input_ids": ids,
                "attention_mask": self.numpy.ones_like(ids),
                "position_ids": self.numpy.arange(len(row))[None],
                "beam_idx": self.numpy.zeros(1, self.numpy.int32),
            }
            (logits,) = request.infer(read)["logits"].astype(self.numpy.float64)[:, :-1]
            highest = logits.max(-1)
            total = highest + self.numpy.log(self.numpy.exp(logits - highest[:, None]).sum(-1))
            losses.append((total - logits[range(len(row) - 1), row[1:]]).tolist())
        return losses

    def begin(self, number: int, ids: list[int], count: int) -> Any:
        """Return the handle of a request for a greedy text of exactly `count` tokens."""
        return self.pipeline.add_request(number, self.prompt(ids), self.asked(count))

    def prompt(self, ids: list[int]) -> Any:
        """Return a prompt (1, tokens) as OpenVINO takes it."""
        return self.openvino.Tensor(self.numpy.array([ids], self.numpy.int64))

    def asked(self, count: int) -> Any:
        """Return the settings of a greedy text of exactly `count` tokens."""
        config = self.genai.GenerationConfig()
        config.max_new_tokens, config.do_sample, config.ignore_eos = count, False, True
        return config


if __name__ == "__main__":
    arguments = answering.decoder_arguments()
    answering.answer_by_methods(lambda: Writer(**arguments))
