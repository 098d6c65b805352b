"""Generate with vLLM's build for CPUs: `vllm_decode.py FOLDER [PRECISION] [--adapters FOLDER]`, compiled.

Jobs are as `benchmarks.support.generation_sides` has them, but that only the whole is timed. PRECISION is a dtype of
vLLM's, such as float32; without one it computes in the precision that it takes by itself. FOLDER has PEFT checkpoints
by name, of which a job names one for each row. Run by the interpreter of the vllm peer, which has none of this project.
"""

import os
import time
from importlib import import_module
from pathlib import Path
from typing import Any

answering = import_module("answering")
MOST_ROWS, LONGEST = 32, 640
CACHE_GIB = "1"
RANK = 8
"""Largest rank of an adapter."""


class Writer:
    """A model."""

    def __init__(self, folder: str, precision: str | None = None, adapters: Path | None = None) -> None:
        os.environ.setdefault("VLLM_CPU_KVCACHE_SPACE", CACHE_GIB)
        self.vllm = import_module("vllm")
        folders = sorted(adapters.iterdir()) if adapters else []
        with_adapters = {"enable_lora": True, "max_loras": len(folders), "max_lora_rank": RANK} if folders else {}
        self.model = self.vllm.LLM(
            folder,
            dtype=precision or "auto",
            max_model_len=LONGEST,
            max_num_seqs=MOST_ROWS,
            enable_prefix_caching=False,
            disable_log_stats=True,
            **with_adapters,
        )
        self.adapters = {one.name: self.lora(number, one) for number, one in enumerate(folders, 1)}

    def lora(self, number: int, folder: Path) -> Any:
        """Return an adapter as a request takes it; `number` tells it from the others."""
        return import_module("vllm.lora.request").LoRARequest(folder.name, number, str(folder))

    def write(self, job: dict[str, Any]) -> dict[str, Any]:
        """Read prompts, and generate `1 + new` tokens for each; return the seconds of the whole and the tokens."""
        asked = self.vllm.SamplingParams(temperature=0.0, max_tokens=job["new"] + 1, ignore_eos=True)
        prompts = [{"prompt_token_ids": row} for row in job["rows"]]
        adapters = {"lora_request": [self.adapters[name] for name in job["adapters"]]} if "adapters" in job else {}
        start = time.perf_counter()
        found = self.model.generate(prompts, asked, use_tqdm=False, **adapters)
        seconds = time.perf_counter() - start
        return {"whole": seconds, "tokens": [list(one.outputs[0].token_ids) for one in found]}

    def score(self, job: dict[str, Any]) -> list[list[float]]:
        """Return the negative log-likelihood of every token after the first of each text, in nats."""
        asked = self.vllm.SamplingParams(temperature=0.0, max_tokens=1, prompt_logprobs=0)
        found = self.model.generate([{"prompt_token_ids": row} for row in job["rows"]], asked, use_tqdm=False)
        return [
            [-told[token].logprob for token, told in zip(row[1:], one.prompt_logprobs[1:], strict=True)]
            for row, one in zip(job["rows"], found, strict=True)
        ]


if __name__ == "__main__":
    arguments = answering.decoder_arguments()
    answering.answer_by_methods(lambda: Writer(**arguments))
