"""The value of the engine's own choices on this machine: the token budget of a batch, and how cores are shared.

Real sentences of all lengths, offline, through the engine on a merged MiniLM in fp32 and int8: budgets of padded tokens
for a batch, one after another on all cores and side by side on one core each.
"""

import tempfile
from collections.abc import Callable
from pathlib import Path

from benchmarks.support.bundles import exported, in_int8, sentences, trained
from benchmarks.support.harness import Benchmark, main
from benchmarks.support.machine import versions_of
from benchmarks.support.report import Findings
from benchmarks.support.rounds import Pace, measure
from serve.bundle.reader import Bundle
from serve.classification.classifier import Classifier
from serve.limits import BATCH_TOKENS
from serve.runtime.providers import CPU, usable_cores

COUNT = 1000
BUDGETS = (256, 512, 1024, 2048, 4096, 8192)


def compare_batching(pace: Pace) -> Findings:
    """Run the sentences with every choice."""
    texts = sentences(COUNT)
    with tempfile.TemporaryDirectory() as folder:
        scratch = Path(folder)
        exact = exported([trained("lora", scratch / "run")], "merged", scratch / "fp32")
        bundles = {"fp32": exact, "int8": in_int8(exact, scratch / "int8")}
        timings = measure({name: sides_of(bundle, texts) for name, bundle in bundles.items()}, pace)
    ratios = {
        (precision, choice): sides[name_of(BATCH_TOKENS[CPU], 1)].seconds / timing.seconds
        for precision, sides in timings.items()
        for choice, timing in sides.items()
    }
    ratio, (precision, choice) = max((ratio, key) for key, ratio in ratios.items())
    return Findings(
        goals=[],
        rows=[
            {
                "precision": precision,
                "choice": choice,
                "texts_per_second": COUNT / timings[precision][choice].seconds,
                "by_default": ratio,
                "noise": timings[precision][choice].noise,
            }
            for (precision, choice), ratio in ratios.items()
        ],
        versions=versions_of(("onnxruntime", "tokenizers", "numpy")),
        worst=f"the default has {1 / ratio:.3f} of the throughput of the best choice ({choice} in {precision})",
    )


def sides_of(bundle: Bundle, texts: list[str]) -> dict[str, Callable[[], object]]:
    """Return the call of every choice."""
    return {
        name_of(budget, streams): call(Classifier(bundle, provider="cpu", batch_tokens=budget, streams=streams), texts)
        for streams in (1, usable_cores())
        for budget in BUDGETS
    }


def name_of(budget: int, streams: int) -> str:
    """Return what a choice is called."""
    return f"{budget} tokens, " + ("one after another" if streams == 1 else f"{streams} side by side")


def call(engine: Classifier, texts: list[str]) -> Callable[[], object]:
    """Return the call of one engine."""
    return lambda: engine(texts)


if __name__ == "__main__":
    main(Benchmark(name="batching", claim=str(__doc__), measure=compare_batching, rounds=3))
