"""Agreement of the engine with transformers: token for token, greedily and by beam search, and in E2E's metrics.

Every checkpoint is an adapter of one bank. Inputs are E2E's; each is generated through every adapter, in mixes that a
seed decides: how many rows there are, how prompts are cut into chunks, what is kept of prompts, and who arrives when.
The reference is `generate` of the checkpoint in PyTorch, fp32, prompts padded on the left. Where a text differs, `gap`
is how far apart the two likeliest logits were in PyTorch at the first token that does: near zero is a tie, which any
other order of additions decides otherwise.
"""

import argparse
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from adamix_cli.progress_bar import progress_bar
from adamix_export.checkpoint.checkpoint import Checkpoint, open_checkpoint
from adamix_export.parity.bounds import Check
from adamix_export.pipeline.export import EXPORTS
from adamix_export.pipeline.options import Options
from adamix_train.data.encoding import Encoding
from adamix_train.data.splits import read_all, task_of
from adamix_train.evaluation.generate import GeneratedText, Prompt, make_prompts
from adamix_train.evaluation.score import score
from adamix_train.recipe.recipe import Recipe
from benchmarks.support.generation_sides import e2e_file
from benchmarks.support.harness import publish
from benchmarks.support.machine import versions_of
from benchmarks.support.report import Findings, Goal
from serve.bundle.reader import open_bundle
from serve.generation.generator import Generator
from serve.generation.prompts import Prompt as Read
from serve.generation.request import SequenceState
from serve.generation.scheduler import ContinuousBatchScheduler
from serve.limits import GenerationLimits
from serve.sampling_params import SamplingParams

INPUTS, SEARCHED, MIXES = 200, 50, 4
BATCH = 20
SEARCH = "beam search"
PAPER = SamplingParams(num_beams=10, length_penalty=0.8, no_repeat_ngram_size=4)
"""AdaMix's decoding of E2E."""
PACKAGES = ("torch", "transformers", "peft", "onnx", "onnxruntime", "tokenizers")
Tokens = list[int]


@dataclass(frozen=True)
class Texts:
    """The tokens that both sides generated after the same prompts, through one adapter."""

    case: str
    source: Checkpoint
    prompts: Sequence[Prompt]
    expected: list[Tokens]
    found: list[Tokens]

    @property
    def differing(self) -> list[int]:
        """Indices of the texts that differ."""
        pairs = zip(self.expected, self.found, strict=True)
        return [index for index, (one, other) in enumerate(pairs) if one != other]

    @property
    def share(self) -> float:
        """The share of texts that are the same, token for token."""
        return 1 - len(self.differing) / len(self.expected)


def main(argv: list[str] | None = None) -> None:
    """Compare what the command line names, print the table and write the JSON object."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.agreement",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("checkpoints", nargs="+", metavar="[NAME=]CHECKPOINT", help="decoders that adamix-train wrote")
    parser.add_argument("--inputs", type=int, default=INPUTS, help="of E2E's test set (default: %(default)s)")
    parser.add_argument("--searches", type=int, default=SEARCHED, help="of them by beam search (default: %(default)s)")
    parser.add_argument("--json", metavar="FILE|-", help="write one JSON object; with - to stdout")
    args = parser.parse_args(argv)
    names = " ".join(Path(argument.rpartition("=")[2]).name for argument in args.checkpoints)
    command = f"python -m benchmarks.agreement {names} --inputs {args.inputs} --searches {args.searches}"
    publish(
        "agreement",
        command,
        lambda: compare_texts([open_checkpoint(argument) for argument in args.checkpoints], args.inputs, args.searches),
        json_to=args.json,
    )


def compare_texts(sources: Sequence[Checkpoint], inputs: int, searches: int) -> Findings:
    """Export a bank of the checkpoints, and write everything on both sides."""
    with tempfile.TemporaryDirectory() as folder:
        bank = Path(folder) / "bank"
        EXPORTS["bank"](sources, bank, Options(check=Check(limit=4)), lambda stage: None)
        return findings_of(written(Generator(open_bundle(bank), provider="cpu"), sources, inputs, searches))


def written(generator: Generator, sources: Sequence[Checkpoint], inputs: int, searches: int) -> list[Texts]:
    """Return the texts of all mixes and searches."""
    prompts = {source.name: inputs_of(source, inputs) for source in sources}
    ends = {name: card.eos_token_ids for name, card in generator.cards.items()}
    texts: list[Texts] = []
    for source in sources:
        expected = referred(source, prompts[source.name], ends[source.name], batch=BATCH)
        texts.append(Texts("greedy", source, prompts[source.name], expected, []))
    for mix in progress_bar(range(MIXES), desc="writing mixes", unit="mix"):
        for one, found in zip(texts[: len(sources)], mixed(generator, sources, prompts, mix), strict=True):
            texts.append(Texts(f"greedy, mix {mix + 1}", one.source, one.prompts, one.expected, found))
    texts = texts[len(sources) :]
    source, *_ = sources
    chosen = prompts[source.name][:: max(1, inputs // searches)][:searches]
    settings = {"num_beams": PAPER.num_beams, "length_penalty": PAPER.length_penalty, "no_repeat_ngram_size": 4}
    texts.append(
        Texts(
            SEARCH,
            source,
            chosen,
            referred(source, chosen, ends[source.name], batch=1, **settings),
            searched(generator, source, chosen),
        )
    )
    return texts


def inputs_of(source: Checkpoint, count: int) -> list[Prompt]:
    """Return prompts spread over E2E's test set, with the texts that people wrote for them."""
    task = task_of(Recipe(**source.card.recipe))
    encoding = Encoding(tokenizer=source.tokenizer, max_length=source.card.max_length, prompt=task.prompt)
    prompts = make_prompts(read_all(str(e2e_file()), task), encoding, encoder_decoder=False)
    return prompts[:: max(1, len(prompts) // count)][:count]


def most_of(source: Checkpoint) -> int:
    """Return how many tokens a text may have."""
    most: int = source.card.recipe["max_new_tokens"]
    return most


def referred(
    source: Checkpoint, prompts: Sequence[Prompt], ends: Sequence[int], *, batch: int, **settings: Any
) -> list[Tokens]:
    """Return the tokens that transformers generates in PyTorch, without the end-of-sequence token."""
    tokenizer = source.tokenizer
    found: list[Tokens] = []
    for start in progress_bar(range(0, len(prompts), batch), desc=f"{source.name} in PyTorch", unit="batch"):
        ids = [prompt.ids for prompt in prompts[start : start + batch]]
        inputs = tokenizer.pad({"input_ids": ids}, padding_side="left", return_tensors="pt")
        with torch.inference_mode():
            rows = source.reference.generate(
                **inputs,
                do_sample=False,
                max_new_tokens=most_of(source),
                eos_token_id=list(ends),
                pad_token_id=tokenizer.pad_token_id,
                **settings,
            )
        for row in rows[:, inputs["input_ids"].shape[1] :].tolist():
            stop = next((at for at, token in enumerate(row) if token in ends), len(row))
            found.append(row[:stop])
    return found


def mixed(
    generator: Generator, sources: Sequence[Checkpoint], prompts: dict[str, list[Prompt]], seed: int
) -> list[list[Tokens]]:
    """Return the tokens that the engine generates, by adapter, in a mix that the seed decides."""
    random = np.random.default_rng(seed)
    limits = GenerationLimits(
        max_batch_requests=int(random.integers(1, 24)),
        prefill_chunk=int(random.integers(16, 400)),
        prefix_tokens=int(random.choice([0, 1024])),
        max_queued_requests=sum(map(len, prompts.values())),
    )
    engine = ContinuousBatchScheduler(generator.model, limits)
    texts = [
        [generation(generator, source, prompt, SamplingParams()) for prompt in prompts[source.name]]
        for source in sources
    ]
    arriving = [text for part in texts for text in part]
    random.shuffle(arriving)
    while arriving or engine.busy:
        for _ in range(min(len(arriving), random.poisson(0.5 + limits.max_batch_requests / 24))):
            engine.submit(arriving.pop())
        engine.step()
    return [[text.tokens for text in part] for part in texts]


def searched(generator: Generator, source: Checkpoint, prompts: Sequence[Prompt]) -> list[Tokens]:
    """Return what beam searches of the engine find, two of them at a time."""
    engine = ContinuousBatchScheduler(generator.model, GenerationLimits(max_batch_requests=2 * PAPER.num_beams))
    texts = [generation(generator, source, prompt, PAPER) for prompt in prompts]
    for text in progress_bar(texts, desc="searching", unit="text"):
        engine.submit(text)
        while engine.waiting or (text is texts[-1] and engine.busy):
            engine.step()
    return [text.tokens for text in texts]


def generation(generator: Generator, source: Checkpoint, prompt: Prompt, sampling: SamplingParams) -> SequenceState:
    """Return a text that has not been begun."""
    asked = SamplingParams(**{**vars(sampling), "max_new_tokens": most_of(source)})
    (made,) = generator.sequences([Read(prompt.ids, generator.registry.find(source.name))], asked)
    return made


def findings_of(texts: Sequence[Texts]) -> Findings:
    """Return the table and the goals."""
    goals = []
    rows: list[dict[str, object]] = []
    for one in texts:
        gaps = [gap_of(one, index) for index in one.differing if one.case != SEARCH]
        metrics = {side: metrics_of(one, getattr(one, side)) for side in ("expected", "found")}
        rows.append(
            {
                "case": one.case,
                "adapter": one.source.name,
                "texts": len(one.found),
                "equal": one.share,
                "widest_gap": max(gaps, default=0.0),
                **{f"{name}_pytorch": value for name, value in metrics["expected"].items()},
                **{f"{name}_engine": value for name, value in metrics["found"].items()},
            }
        )
        case = f"{one.case}, {one.source.name}"
        goals.append(Goal(what=f"{case}: texts equal to transformers'", value=one.share, goal=1.0))
        apart = max(abs(metrics["found"][name] - value) for name, value in metrics["expected"].items())
        goals.append(Goal(what=f"{case}: largest difference of a metric", value=apart, goal=0.0, better="lower"))
    worst = min(texts, key=lambda one: one.share)
    return Findings(
        goals=goals,
        rows=rows,
        versions=versions_of(PACKAGES),
        worst=f"{worst.share:.3f} of the texts equal ({worst.case}, {worst.source.name})",
    )


def gap_of(texts: Texts, index: int) -> float:
    """Return the distance of the two likeliest logits in PyTorch where a text first differs."""
    expected, found = texts.expected[index], texts.found[index]
    same = next((at for at, (a, b) in enumerate(zip(expected, found, strict=False)) if a != b), None)
    same = min(len(expected), len(found)) if same is None else same
    ids = torch.tensor([[*texts.prompts[index].ids, *expected[:same]]])
    with torch.inference_mode():
        best = texts.source.reference(input_ids=ids).logits[0, -1].topk(2).values
    return float(best[0] - best[1])


def metrics_of(texts: Texts, tokens: Sequence[Tokens]) -> dict[str, float]:
    """Return the task's metrics of the generated texts."""
    tokenizer = texts.source.tokenizer
    written = [
        GeneratedText(prompt.input, tokenizer.decode(row, skip_special_tokens=True).strip(), prompt.references)
        for prompt, row in zip(texts.prompts, tokens, strict=True)
    ]
    return score(written, task_of(Recipe(**texts.source.card.recipe)).metrics)


if __name__ == "__main__":
    main(sys.argv[1:])
