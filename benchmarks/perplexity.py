"""The price of a precision: perplexity of one decoder in each of ours and of its peers'.

Weights, sides and precisions are those of `benchmarks.generate`: ours, openvino-genai's model in OpenVINO, and vLLM, in
fp32, in the precision that those two take by themselves (bf16 where the processor has it), and with smaller weights.
The texts are references of E2E's test set; every token after a text's first counts. `lost` is the share by which a
side's perplexity is above that of transformers in fp32, and its standard error is over the texts, each compared with
itself.
"""

import math
import tempfile
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from adamix_cli.progress_bar import progress_bar
from benchmarks.generate import (
    OPENVINO,
    OPENVINO_DEFAULT,
    OPENVINO_INT4,
    OPENVINO_INT4_FP32,
    OURS,
    OURS_INT4,
    OURS_W8A8,
    PACKAGES,
    PRECISIONS,
    TRANSFORMERS,
    VLLM,
    VLLM_DEFAULT,
    peer_sides,
)
from benchmarks.peers import versions_with
from benchmarks.support.generation_sides import e2e_references, models, present
from benchmarks.support.harness import Benchmark, main
from benchmarks.support.report import Absent, Findings, Goal
from benchmarks.support.rounds import Pace
from serve.bundle.reader import Bundle
from serve.bundle.tokenizer import read_tokenizer
from serve.generation.generator import Generator
from serve.generation.prompts import Prompt
from serve.generation.sampling.logits import log_softmax

SCORING = (TRANSFORMERS, OPENVINO, OPENVINO_DEFAULT, OPENVINO_INT4, OPENVINO_INT4_FP32, VLLM, VLLM_DEFAULT)
"""Peers that can score a text."""
BATCH = 10
"""Texts of a round, which ours reads side by side."""
ROUNDS = 20
LOSS = 0.03
"""Goal of w8a8 and int4, as `adamix-export` holds them to."""
NO_WORSE = (
    *((side, peer) for side in (OURS, OURS_W8A8) for peer in (OPENVINO_DEFAULT, VLLM_DEFAULT)),
    *((side, OPENVINO_INT4) for side in (OURS_W8A8, OURS_INT4)),
)
"""Sides whose perplexity should be at most a peer's."""
Losses = Sequence[Sequence[float]]
"""Negative log-likelihoods of the tokens of each text, in nats; that of its first token is left out."""


def compare_perplexity(pace: Pace) -> Findings:
    """Have every side read the same texts."""
    with tempfile.TemporaryDirectory() as folder, ExitStack() as stack:
        found = models(PRECISIONS, Path(folder))
        openers = peer_sides(stack, found.merged, Path(folder))
        peers, absent = present({name: openers[name] for name in SCORING})
        sides = {f"adamix {name}": partial(score_ours, bundle) for name, bundle in found.bundles.items()} | peers
        tokenizer = read_tokenizer(found.bundles["fp32"].tokenizer)
        texts = e2e_references(BATCH * pace.rounds)
        job = {"do": "score", "rows": [tokenizer.encode(text).ids for text in texts]}
        losses = {name: score(job) for name, score in progress_bar(list(sides.items()), desc="reading", unit="side")}
    return findings_of(losses, absent)


def score_ours(bundle: Bundle, job: Mapping[str, list[list[int]]]) -> Losses:
    """Return what our engine loses on the texts of a job."""
    generator = Generator(bundle, provider="cpu")
    adapter = generator.registry.find(None)
    losses: list[list[float]] = []
    for start in range(0, len(job["rows"]), BATCH):
        rows = job["rows"][start : start + BATCH]
        prompts, tokens = [Prompt(row[:1], adapter) for row in rows], [row[1:] for row in rows]
        logits = generator.forced_logits(prompts, tokens)
        losses += [loss_of(one, row).tolist() for one, row in zip(logits, tokens, strict=True)]
    return losses


def loss_of(logits: NDArray[np.float32], tokens: Sequence[int]) -> NDArray[np.floating]:
    """Return the negative log-likelihood (tokens,) of tokens by the logits (tokens, vocabulary) before them."""
    return -log_softmax(logits.astype(np.float64))[range(len(tokens)), tokens]


def perplexity(losses: Losses) -> float:
    """Return the perplexity of all tokens."""
    return math.exp(sum(map(sum, losses)) / sum(map(len, losses)))


def lost(losses: Losses, reference: Losses) -> tuple[float, float]:
    """Return the share by which a perplexity is above a reference's, and its standard error over texts."""
    lengths = np.array([len(one) for one in losses])
    excess = np.array([sum(one) - sum(other) for one, other in zip(losses, reference, strict=True)])
    mean = excess.sum() / lengths.sum()
    spread = excess - mean * lengths
    error = math.sqrt(len(spread) / (len(spread) - 1) * (spread**2).sum()) / lengths.sum()
    return math.expm1(mean), math.exp(mean) * error


def findings_of(losses: Mapping[str, Losses], absent: Sequence[Absent]) -> Findings:
    """Return the table and the goals."""
    shares = {name: lost(one, losses[TRANSFORMERS]) for name, one in losses.items()}
    by_side = {name: perplexity(one) for name, one in losses.items()}
    within = [
        Goal(what=f"{name}: share of the perplexity that is lost", value=shares[name][0], goal=LOSS, better="lower")
        for name in (OURS_W8A8, OURS_INT4)
    ]
    by_peer = [
        Goal(what=f"perplexity of {side} by {peer}", value=by_side[side] / by_side[peer], goal=1.0, better="lower")
        for side, peer in NO_WORSE
        if peer in by_side
    ]
    worst = max(by_peer, key=lambda goal: goal.value or 0.0, default=within[0])
    return Findings(
        goals=[*within, *by_peer],
        rows=[
            {
                "side": name,
                "texts": len(one),
                "tokens": sum(map(len, one)),
                "perplexity": by_side[name],
                "lost": shares[name][0],
                "standard_error": shares[name][1],
            }
            for name, one in losses.items()
        ],
        versions=versions_with(PACKAGES, losses),
        worst=str(worst),
        absent=absent,
    )


if __name__ == "__main__":
    main(Benchmark(name="perplexity", claim=str(__doc__), measure=compare_perplexity, rounds=ROUNDS))
