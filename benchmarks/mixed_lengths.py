"""Real sentences of all lengths, offline: our engine against optimum's O2 graph in batches of 32 as they come.

The texts are SST-2's sentences. Each side tokenizes, batches and runs them: ours by length, within a budget of tokens;
the peer as programs do that use it, padded to the longest of each batch, in the order of arrival and, to tell what
sorting alone gives, sorted.
"""

import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import onnxruntime as ort
from numpy.typing import NDArray
from onnxruntime.quantization import QuantType, quantize_dynamic
from tokenizers import Tokenizer

from benchmarks.peers import PEERS
from benchmarks.support.bundles import RUN, exported, in_int8, merged_model, sentences, trained
from benchmarks.support.classifier_sides import OPTIMUM, OURS, QUANTISED, plain_session
from benchmarks.support.errors import DisagreementError, PeerError
from benchmarks.support.harness import Benchmark, main
from benchmarks.support.machine import versions_of
from benchmarks.support.report import Absent, Findings, Goal
from benchmarks.support.rounds import Pace, measure
from serve.bundle.reader import Bundle
from serve.classification.classifier import Classifier
from serve.runtime.providers import usable_cores

COUNT = 2000
BATCH = 32
CASE = f"{COUNT} sentences"
INT8, SORTED = f"{OURS}-int8", f"{OPTIMUM}-sorted"
PEER_INT8 = f"{OPTIMUM}-int8"
TOLERANCE = 1e-4
PACKAGES = ("torch", "transformers", "onnx", "onnxruntime", "tokenizers", "numpy")

Logits = NDArray[np.float32]
Side = Callable[[], Logits]


def compare_throughput(pace: Pace) -> Findings:
    """Run all sentences on every side."""
    texts = sentences(COUNT)
    with tempfile.TemporaryDirectory() as folder:
        scratch = Path(folder)
        source = trained("lora", scratch / "run")
        bundle = exported([source], "merged", scratch / "fp32")
        sides = {
            OURS: ours(bundle, texts),
            INT8: ours(in_int8(bundle, scratch / "int8"), texts),
        }
        absent = []
        try:
            sides |= peers(merged_model(source, scratch / "merged"), bundle, scratch, texts)
        except PeerError as error:
            absent.append(Absent(peer=OPTIMUM, reason=str(error)))
        require_agreement({name: side() for name, side in sides.items() if name not in (INT8, PEER_INT8)})
        timings = measure({CASE: sides}, pace)[CASE]
    rates = {name: len(texts) / timing.seconds for name, timing in timings.items()}
    peer = rates.get(OPTIMUM)
    return Findings(
        goals=[
            Goal(what=f"{name} by optimum's O2 in the order of arrival", value=peer and rates[name] / peer, goal=goal)
            for name, goal in ((OURS, 1.9), (INT8, 4.0))
        ],
        rows=[
            {"side": name, "texts_per_second": rate, "seconds": timings[name].seconds, "noise": timings[name].noise}
            for name, rate in rates.items()
        ],
        versions=versions_of(PACKAGES) | (PEERS[OPTIMUM].versions() if peer else {}),
        worst=f"{rates[OURS] / peer:.3f} in fp32" if peer else "no peer was there",
        absent=absent,
    )


def ours(bundle: Bundle, texts: Sequence[str]) -> Side:
    """Return the engine's call."""
    classifier = Classifier(bundle, provider="cpu", streams=usable_cores())
    return lambda: np.stack([prediction.logits for prediction in classifier(texts)])


def peers(model: Path, bundle: Bundle, scratch: Path, texts: Sequence[str]) -> dict[str, Side]:
    """Return the peer's calls: as texts come, sorted, and as they come in int8."""
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


def require_agreement(logits: dict[str, Logits]) -> None:
    """Raise an error unless every side answers as ours."""
    for name, found in logits.items():
        difference = float(np.abs(found - logits[OURS]).max())
        if not difference < TOLERANCE:
            raise DisagreementError(f"the logits of {name} differ from ours by {difference:.2e}: times do not compare")


if __name__ == "__main__":
    main(Benchmark(name="mixed_lengths", claim=str(__doc__), measure=compare_throughput, rounds=5))
