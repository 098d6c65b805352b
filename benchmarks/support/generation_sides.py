"""The sides that the generation benchmarks share: our engine, and peers as processes that run the same jobs.

A job `write` has `rows`, prompts of one length as lists of token ids, and `new`: read the prompts, which gives the
first token of each, and then generate `new` more; no token ends a text. The result has the seconds of both parts,
`prefill` and `decode`, or of the `whole` where a side does not tell them apart, and the `tokens` (rows, 1 + new).
A job `score` has `rows`, texts as token ids; the result has for each the negative log-likelihood of every token after
its first, in nats.

The model is SmolLM2-135M-Instruct with a LoRA of a moment's training merged in, the same weights for all sides but
llama.cpp, which gets the base's GGUF file.
"""

import csv
import hashlib
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from adamix_export.checkpoint.checkpoint import Checkpoint, open_checkpoint
from adamix_export.parity.bounds import Check
from adamix_export.pipeline.export import EXPORTS, UNBOUNDED
from adamix_export.pipeline.options import Options
from adamix_train.recipe.recipe import Recipe
from adamix_train.run.train import train
from benchmarks.peers import PEERS
from benchmarks.peers.worker import working
from benchmarks.support.bundles import merged_model
from benchmarks.support.data import data_file
from benchmarks.support.errors import BenchmarkError, PeerError
from benchmarks.support.gguf_file import in_fast_format
from benchmarks.support.report import Absent
from demos.models import GGUF, sample_model
from demos.tasks import DATA
from serve.bundle.adapter import Adapter
from serve.bundle.reader import Bundle, open_bundle
from serve.generation.detokenizer import IncrementalDetokenizer
from serve.generation.generator import Generator
from serve.generation.prompts import Prompt
from serve.generation.request import SequenceState
from serve.generation.scheduler import ContinuousBatchScheduler
from serve.limits import GenerationLimits
from serve.sampling_params import SamplingParams

BASE = "smollm2"
ROWS = 32
"""Most rows of a job."""
RUN: dict[str, Any] = {
    "task": "generation",
    "text_column": "text",
    "label_column": "label",
    "kind": "lora",
    "r": 8,
    "num_modules": 4,
    "train_limit": 32,
    "batch_size": 8,
    "epochs": 1,
    "max_length": 64,
    "max_new_tokens": 32,
    "report_to": "none",
}
Write = Callable[[dict[str, Any]], Any]


@dataclass(frozen=True, kw_only=True)
class Models:
    """One model in every form."""

    bundles: dict[str, Bundle]
    """Bundles by precision."""
    merged: Path
    """Model folder for peers that read those of transformers."""


def trained_writer(out: Path, seed: int = 0) -> Checkpoint:
    """Train a mixture for a moment, and open it for export."""
    files = {key: str(DATA / "tone" / f"{name}.csv") for key, name in (("train_file", "train"), ("test_file", "test"))}
    train(Recipe(**{"base": str(sample_model(BASE)), "out": str(out), "seed": seed, **files, **RUN}))
    return open_checkpoint(str(out))


def models(precisions: Sequence[str], scratch: Path) -> Models:
    """Train, export in every precision, and write the merged model."""
    source = trained_writer(scratch / "run")
    bundles = {precision: exported(source, precision, "merged", scratch / precision) for precision in precisions}
    return Models(bundles=bundles, merged=merged_model(source, scratch / "merged"))


def exported(source: Checkpoint, precision: str, shape: str, out: Path) -> Bundle:
    """Return a bundle that adamix-export wrote; what a precision costs is for `benchmarks.precision` to say."""
    options = Options(check=Check(limit=4), precision=precision, tolerance=UNBOUNDED, max_metric_drop=UNBOUNDED)
    EXPORTS[shape]([source], out, options, lambda stage: None)
    return open_bundle(out)


def bank_of_writers(source: Checkpoint, precision: str, count: int, out: Path) -> Bundle:
    """Export a bank, and give it `count` adapters like its own, each with other weights and canary rows that hold."""
    bundle = exported(source, precision, "bank", out)
    generator = Generator(bundle, provider="cpu")
    (first,) = bundle.adapters.values()
    random = np.random.default_rng(0)
    made = {}
    for name in (f"a{index}" for index in range(count)):
        tensors = {
            key: (old * random.normal(1, 0.3, old.shape)).astype(np.float32) for key, old in first.tensors.items()
        }
        sha256 = hashlib.sha256(b"".join(map(np.ndarray.tobytes, tensors.values()))).hexdigest()
        adapter = Adapter(replace(first.card, name=name, sha256=sha256), tensors)
        canaries = [Prompt(ids, adapter) for ids in first.card.canary_ids]
        logits = generator.forced_logits(canaries, first.card.canary_tokens)
        chosen = [row[range(len(row)), tokens] for row, tokens in zip(logits, first.card.canary_tokens, strict=True)]
        made[name] = Adapter(replace(adapter.card, canary_logits=[row.tolist() for row in chosen]), tensors)
    return replace(bundle, adapters=made)


class Ours:
    """Our engine on a bundle, as a peer."""

    def __init__(
        self,
        bundle: Bundle,
        limits: GenerationLimits | None = None,
        *,
        slots: int | None = None,
        provider: str = "cpu",
    ) -> None:
        self.limits = limits or GenerationLimits(prefix_tokens=0)
        self.generator = Generator(bundle, limits=self.limits, provider=provider, slots=slots)

    def write(self, job: dict[str, Any]) -> dict[str, Any]:
        """Do a job; `adapters` may name one for every row, and `sampling` has parameters for all."""
        made = self.scheduler()
        names = job.get("adapters") or [None] * len(job["rows"])
        sampling = job.get("sampling", {})
        texts = [
            self.begun(row, job["new"] + 1, name, **sampling) for row, name in zip(job["rows"], names, strict=True)
        ]
        start = time.perf_counter()
        for text in texts:
            made.submit(text)
        while not all(text.tokens for text in texts):
            made.step()
        first, written = time.perf_counter(), [len(text.tokens) for text in texts]
        while made.busy:
            made.step()
        steps = job["new"] + 1 - min(written)
        decode = (time.perf_counter() - first) * job["new"] / max(1, steps)
        return {"prefill": first - start, "decode": decode, "tokens": [text.tokens for text in texts]}

    def scheduler(self) -> ContinuousBatchScheduler:
        """Return a scheduler without sequences."""
        return ContinuousBatchScheduler(self.generator.model, self.limits)

    def begun(self, ids: Sequence[int], count: int, name: str | None = None, **sampling: Any) -> SequenceState:
        """Return a text of exactly `count` tokens."""
        adapter = endless(self.generator.registry.find(name))
        detokenizer = IncrementalDetokenizer(self.generator.token_texts.decoders[True]())
        return SequenceState(ids, adapter, SamplingParams(max_new_tokens=count, **sampling), detokenizer)


def endless(adapter: Adapter) -> Adapter:
    """Return an adapter whose texts no token ends."""
    return Adapter(replace(adapter.card, eos_token_ids=[]), adapter.tensors)


def genai(stack: ExitStack, model: Path, precision: str) -> Write:
    """Return onnxruntime-genai on the graph that its own builder makes of a model folder."""
    return genai_on(stack, PEERS["genai"].convert("genai_export.py", model, precision))


def genai_on(stack: ExitStack, folder: Path) -> Write:
    """Return onnxruntime-genai on a folder that it opens."""
    PEERS["genai"].require()
    return stack.enter_context(working(PEERS["genai"].python, "genai_decode.py", folder)).ask


def openvino(
    stack: ExitStack, model: Path, precision: str, hint: str | None = None, adapters: Path | None = None
) -> Write:
    """Return openvino-genai on a model folder with its weights in a precision.

    It computes as `hint` tells it; None leaves that to OpenVINO. `adapters` is a folder of PEFT checkpoints, of which a
    job may take one.
    """
    peer = PEERS["openvino_genai"]
    folder = peer.convert("openvino_genai_export.py", model, precision)
    return stack.enter_context(working(peer.python, "openvino_genai_decode.py", folder, *_asked(hint, adapters))).ask


def _asked(precision: str | None, adapters: Path | None) -> list[Path | str]:
    """Return the arguments of a peer for a precision and a folder of adapters."""
    hints = [] if precision is None else [precision]
    options: list[Path | str] = [] if adapters is None else ["--adapters", adapters]
    return [*hints, *options]


def vllm(stack: ExitStack, model: Path, precision: str | None = None, adapters: Path | None = None) -> Write:
    """Return vLLM's build for CPUs on a model folder, which times the whole of a job alone.

    It computes in `precision`; None leaves that to vLLM. `adapters` is a folder of PEFT checkpoints, of which a job may
    take one for each row.
    """
    peer = PEERS["vllm"]
    peer.require()
    return stack.enter_context(working(peer.python, "vllm_decode.py", model, *_asked(precision, adapters))).ask


def llama(stack: ExitStack, scratch: Path) -> Write:
    """Return llama.cpp's server on the base's GGUF file in a faster format; it times the whole of a job alone."""
    peer = PEERS["llama"]
    peer.require()
    in_fast_format(sample_model(f"{BASE}-gguf") / GGUF, scratch / GGUF)
    return stack.enter_context(working(peer.python, "llama_decode.py", scratch / GGUF)).ask


def hugging_face(stack: ExitStack, model: Path, library: str) -> Write:
    """Return a library's `generate` on a model folder."""
    python: Path | str = sys.executable
    if library == "optimum":
        PEERS[library].require()
        python = PEERS[library].python
    return stack.enter_context(working(python, "hf_decode.py", model, library)).ask


def present(sides: dict[str, Callable[[], Write]]) -> tuple[dict[str, Write], list[Absent]]:
    """Open sides; return those that could be, and why the others could not."""
    opened, absent = {}, []
    for name, side in sides.items():
        try:
            opened[name] = side()
        except PeerError as error:
            absent.append(Absent(peer=name, reason=str(error)))
    return opened, absent


def prompts(generator: Generator, count: int, length: int) -> list[list[int]]:
    """Return token ids of E2E's test inputs, one after another, cut into prompts of one length."""
    inputs = e2e_inputs()
    ids = generator.tokenizer.encode("\n".join(inputs)).ids
    if len(ids) < count * length:
        raise BenchmarkError(f"{count} prompts of {length} tokens are more than E2E's inputs come to")
    return [ids[at * length : (at + 1) * length] for at in range(count)]


def e2e_file() -> Path:
    """Return E2E's test set."""
    return data_file("e2e/testset_w_refs.csv")


def e2e_inputs() -> list[str]:
    """Return the different inputs of E2E's test set."""
    return _different("mr")


def e2e_references(count: int) -> list[str]:
    """Return different texts that people wrote for E2E's test inputs, spread over the file."""
    texts = _different("ref")
    return texts[:: max(1, len(texts) // count)][:count]


def _different(column: str) -> list[str]:
    """Return what differs in a column of E2E's test set, in its order."""
    with e2e_file().open(encoding="utf-8", newline="") as stream:
        return list(dict.fromkeys(row[column] for row in csv.DictReader(stream)))
