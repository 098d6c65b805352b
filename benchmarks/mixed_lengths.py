"""Real sentences of all lengths, offline: our engine against optimum's O2 graph, infinity-emb and CTranslate2.

The texts are SST-2's sentences. Each side tokenizes, batches and runs them: ours by length, within a budget of tokens;
optimum's as programs do that use it, in batches of 32 padded to the longest, in the order of arrival and, to tell what
sorting alone gives, sorted; infinity-emb as its engine forms batches of the same graph; CTranslate2, which forms none
by itself, in sorted batches of 32. The last two time themselves in their own processes.
"""

import tempfile
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from functools import partial
from pathlib import Path

import numpy as np
import onnxruntime as ort
from numpy.typing import NDArray
from onnxruntime.quantization import QuantType, quantize_dynamic
from tokenizers import Tokenizer

from benchmarks.peers import PEERS, versions_with
from benchmarks.peers.worker import Worker, working
from benchmarks.support.bundles import RUN, exported, in_int8, merged_model, sentences, trained
from benchmarks.support.classifier_sides import OPTIMUM, OURS, QUANTISED, plain_session
from benchmarks.support.errors import DisagreementError, PeerError
from benchmarks.support.harness import Benchmark, main
from benchmarks.support.report import Absent, Findings, Goal
from benchmarks.support.rounds import Call, Pace, Reported, Timing, measure
from benchmarks.support.server_sides import INFINITY, optimum_graph
from serve.bundle.reader import Bundle
from serve.classification.classifier import Classifier
from serve.runtime.providers import usable_cores

COUNT = 2000
BATCH = 32
CASE = f"{COUNT} sentences"
INT8, SORTED = f"{OURS}-int8", f"{OPTIMUM}-sorted"
PEER_INT8 = f"{OPTIMUM}-int8"
CTRANSLATE2 = "ctranslate2"
CTRANSLATE2_INT8 = f"{CTRANSLATE2}-int8"
INEXACT = (INT8, PEER_INT8, CTRANSLATE2_INT8)
"""Sides whose logits differ from ours in fp32."""
GOALS = (
    (OURS, OPTIMUM, 1.9),
    (INT8, OPTIMUM, 4.0),
    (OURS, INFINITY, 1.5),
    (OURS, CTRANSLATE2, 1.0),
    (INT8, CTRANSLATE2_INT8, 1.0),
)
"""Side, peer, and the ratio of their texts a second."""
TOLERANCE = 1e-4
PACKAGES = ("torch", "transformers", "onnx", "onnxruntime", "tokenizers", "numpy")

Logits = NDArray[np.float32]
Side = Callable[[], Logits]
"""Returns the logits of all texts (texts, labels)."""


def compare_throughput(pace: Pace) -> Findings:
    """Run all sentences on every side."""
    texts = sentences(COUNT)
    with tempfile.TemporaryDirectory() as folder, ExitStack() as stack:
        scratch = Path(folder)
        source = trained("lora", scratch / "run")
        bundle = exported([source], "merged", scratch / "fp32")
        model = merged_model(source, scratch / "merged")
        sides = {
            OURS: ours(bundle, texts),
            INT8: ours(in_int8(bundle, scratch / "int8"), texts),
        }
        workers: dict[str, Worker] = {}
        absent = []
        for name, opened in (
            (OPTIMUM, lambda: sides.update(optimum(model, bundle, scratch, texts))),
            (INFINITY, lambda: workers.update(infinity(stack, model))),
            (CTRANSLATE2, lambda: workers.update(ctranslate2(stack, model))),
        ):
            try:
                opened()
            except PeerError as error:
                absent.append(Absent(peer=name, reason=str(error)))
        logits = {name: side() for name, side in sides.items()}
        logits |= {
            name: np.array(worker.ask({"texts": texts})["logits"], np.float32) for name, worker in workers.items()
        }
        require_agreement({name: found for name, found in logits.items() if name not in INEXACT})
        calls: dict[str, Call] = {**sides, **{name: partial(timed, worker, texts) for name, worker in workers.items()}}
        timings = measure({CASE: calls}, pace)[CASE]
    return findings_of(timings, absent)


def ours(bundle: Bundle, texts: Sequence[str]) -> Side:
    """Return the engine's call."""
    classifier = Classifier(bundle, provider="cpu", streams=usable_cores())
    return lambda: np.stack([prediction.logits for prediction in classifier(texts)])


def optimum(model: Path, bundle: Bundle, scratch: Path, texts: Sequence[str]) -> dict[str, Side]:
    """Return optimum's calls: as texts come, sorted, and as they come in int8."""
    graph = PEERS[OPTIMUM].convert("optimum_export.py", model) / "model_optimized.onnx"
    file = scratch / "peer.onnx"
    quantize_dynamic(graph, file, per_channel=True, weight_type=QuantType.QInt8, extra_options=QUANTISED)
    tokenizer = Tokenizer.from_file(str(bundle.tokenizer))
    tokenizer.enable_truncation(RUN["max_length"])
    tokenizer.enable_padding(pad_id=bundle.manifest.pad_token_id)
    exact, int8 = plain_session(graph), plain_session(file)
    by_length = sorted(range(len(texts)), key=lambda index: len(texts[index]))

    def call(session: ort.InferenceSession, order: Sequence[int]) -> Logits:
        logits: dict[int, Logits] = {}
        for start in range(0, len(order), BATCH):
            batch = order[start : start + BATCH]
            encodings = tokenizer.encode_batch([texts[index] for index in batch])
            feeds = {
                "input_ids": np.array([found.ids for found in encodings], np.int64),
                "attention_mask": np.array([found.attention_mask for found in encodings], np.int64),
                "token_type_ids": np.array([found.type_ids for found in encodings], np.int64),
            }
            logits |= zip(batch, session.run(["logits"], feeds)[0], strict=True)
        return np.stack([logits[index] for index in range(len(order))])

    return {
        OPTIMUM: lambda: call(exact, range(len(texts))),
        SORTED: lambda: call(exact, by_length),
        PEER_INT8: lambda: call(int8, range(len(texts))),
    }


def infinity(stack: ExitStack, model: Path) -> dict[str, Worker]:
    """Return infinity-emb on optimum's O2 graph."""
    peer = PEERS[INFINITY]
    peer.require()
    folder = optimum_graph(model).parent
    return {INFINITY: stack.enter_context(working(peer.python, "infinity_classify.py", folder))}


def ctranslate2(stack: ExitStack, model: Path) -> dict[str, Worker]:
    """Return CTranslate2 in fp32 and in int8."""
    peer = PEERS[CTRANSLATE2]
    folder = peer.convert("ctranslate2_convert.py", model)
    options = {CTRANSLATE2: "float32", CTRANSLATE2_INT8: "int8"}
    length = str(RUN["max_length"])
    return {
        name: stack.enter_context(working(peer.python, "ctranslate2_classify.py", folder, compute_type, length))
        for name, compute_type in options.items()
    }


def require_agreement(logits: Mapping[str, Logits]) -> None:
    """Raise an error unless every side answers as ours; a constant that is added to a row's logits changes nothing."""
    centred = {name: found - found.mean(axis=1, keepdims=True) for name, found in logits.items()}
    for name, found in centred.items():
        difference = float(np.abs(found - centred[OURS]).max())
        if not difference < TOLERANCE:
            raise DisagreementError(f"the logits of {name} differ from ours by {difference:.2e}: times do not compare")


def findings_of(timings: Mapping[str, Timing], absent: Sequence[Absent]) -> Findings:
    """Return the table and the goals."""
    rates = {name: COUNT / timing.seconds for name, timing in timings.items()}
    goals = [
        Goal(
            what=f"texts a second, {side} by {peer}",
            value=rates[side] / rates[peer] if peer in rates else None,
            goal=goal,
        )
        for side, peer, goal in GOALS
    ]
    measured = [(goal.value / goal.goal, str(goal)) for goal in goals if goal.value is not None]
    return Findings(
        goals=goals,
        rows=[
            {"side": name, "texts_per_second": rate, "seconds": timings[name].seconds, "noise": timings[name].noise}
            for name, rate in rates.items()
        ],
        versions=versions_with(PACKAGES, rates),
        worst=min(measured)[1] if measured else "no peer was there",
        absent=absent,
    )


def timed(worker: Worker, texts: Sequence[str]) -> Reported:
    """Return the time that a peer took by its own clock."""
    return Reported(worker.ask({"texts": list(texts)})["seconds"])


if __name__ == "__main__":
    main(Benchmark(name="mixed_lengths", claim=str(__doc__), measure=compare_throughput, rounds=5))
