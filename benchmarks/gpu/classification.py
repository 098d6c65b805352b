"""Classification in fp16: batches of one length, and texts of all lengths, against PyTorch eager and compiled."""

import json
from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.gpu.bundles import open_prepared
from benchmarks.gpu.ceilings import PRODUCT, ceilings, matrix_rate
from benchmarks.gpu.outcome import Outcome
from benchmarks.gpu.setting import Setting
from benchmarks.gpu.texts import read_texts
from benchmarks.gpu.torch_sides import (
    COMPILED,
    EAGER,
    attempt,
    classify,
    compiled,
    load_classifier,
    require_agreement,
)
from benchmarks.support.comparison import Comparison
from benchmarks.support.errors import BenchmarkError, PeerError
from benchmarks.support.report import Absent, Row
from benchmarks.support.rounds import Call, Timings, measure
from serve.bundle.config import vocab_size
from serve.bundle.manifest import CONFIG
from serve.bundle.manifest import PACKED as PACKED_GRAPH
from serve.bundle.reader import Bundle
from serve.classification.classifier import Classifier
from serve.classification.text_tokenizer import EncodedText
from serve.errors import ServeError

OURS = "adamix"
CASES = {"1x16": (1, 16), "1x128": (1, 128), "8x64": (8, 64), "64x32": (64, 32), "64x128": (64, 128)}
"""Rows x tokens."""
TINY_CASES = {"1x16": (1, 16), "4x8": (4, 8)}
COMPILED_CASES = ("1x16", "64x128")
"""Cases that are compiled: each takes the compiler many seconds."""
DECIDING = "64x128"
BATCH = 64
"""Rows of a batch of texts of all lengths."""
MIXED = "mixed lengths"
PACKED, MASKED, PADDED = "packed", "masked", "padded"
ENGINE, EAGER_PADDED = "engine, sorted", "pytorch, padded"
NOTES = (
    "Milliseconds are of a batch, from token ids on the host to logits on the host.",
    "In mixed lengths they are of all texts: packed, masked and padded in batches of 64 in the order of arrival. "
    "Packed runs the graph without padding, on a CPU, which has no kernels for it, the masked one; padded fills every "
    "row up to its batch's longest. The engine tokenizes as well, and batches by length.",
)


def measure_small(setting: Setting) -> Iterator[Outcome]:
    """Measure MiniLM."""
    return _measure("minilm", "minilm-lora-merged", setting)


def measure_large(setting: Setting) -> Iterator[Outcome]:
    """Measure the RoBERTa-large shape, which the goals are for."""
    return _measure("roberta-large", "roberta-large-merged", setting)


def rows_of(classifier: Classifier, count: int, tokens: int, names: Sequence[str] = ()) -> list[EncodedText]:
    """Return rows of random tokens, through the only adapter or through those of `names`."""
    random = np.random.default_rng(0)
    ids = random.integers(5, vocab_size(classifier.bundle) or 5, (count, tokens)).tolist()
    adapters = [classifier.registry.find(name) for name in names] or [classifier.registry.find(None)] * count
    return [EncodedText(row, [0] * tokens, adapter) for row, adapter in zip(ids, adapters, strict=True)]


def logits_of(classifier: Classifier, rows: Sequence[EncodedText]) -> NDArray[np.float32]:
    """Return the logits (rows, labels) of one batch; raise the error of a row that has one."""
    found = []
    for prediction in classifier.run(rows):
        if isinstance(prediction, Exception):
            raise prediction
        found.append(prediction.logits)
    return np.stack(found)


def flops(config: dict[str, Any], rows: int, tokens: int) -> float:
    """Return the floating-point operations of an encoder's layers over a batch, two a multiplication and addition.

    Four products of width² for attention's projections and two of width × inner width a token, and two of
    tokens × width for the attention itself.
    """
    width, inner = config["hidden_size"], config["intermediate_size"]
    a_token = 4 * width**2 + 2 * width * inner + 2 * tokens * width
    return 2.0 * config["num_hidden_layers"] * rows * tokens * a_token


def _measure(model: str, bundle: str, setting: Setting) -> Iterator[Outcome]:
    """Yield the outcome without the compiled sides, which may take too long to compile, and then with them."""
    opened = open_prepared(bundle, setting)
    classifier = Classifier(without_packed(opened), provider=setting.provider)
    torch_model = load_classifier(setting.merged(model), setting)
    packed, absent = _packed(opened, torch_model, setting)
    sides = _sides(classifier, torch_model, setting)
    mixed = _mixed(classifier, packed, torch_model, setting)
    if packed is not None:
        deciding = list(sides)[-1]
        sides[deciding][PACKED] = partial(packed.run, rows_of(packed, *_cases(setting)[deciding]))
    limit = {"ceiling": {PRODUCT: ceilings(setting)[PRODUCT]}}
    timings = measure({**sides, MIXED: mixed, **limit}, setting.pace)
    yield replace(_outcome(timings, model, classifier, setting), absent=absent)
    absent += _add_compiled(sides, classifier, torch_model, setting)
    faster = {case: calls for case, calls in sides.items() if COMPILED in calls}
    timings |= measure(faster, setting.pace)
    yield replace(_outcome(timings, model, classifier, setting), absent=absent)


def _outcome(timings: Timings, model: str, classifier: Classifier, setting: Setting) -> Outcome:
    figures = {}
    if model != "minilm" and DECIDING in timings:
        figures = figures_of(timings, _config(classifier), matrix_rate(setting, timings["ceiling"][PRODUCT]))
    origin, texts = read_texts(setting)
    notes = [*NOTES, f"Texts: {len(texts)} of {origin}."]
    return Outcome(rows=table_of(timings, model), figures=figures, notes=notes)


def figures_of(timings: Timings, config: dict[str, Any], rate: float) -> dict[str, float]:
    """Return the figures of goals; `rate` is that of the large product, in operations a second."""
    case = timings[DECIDING]
    rows, tokens = CASES[DECIDING]
    figures = {"large_share": flops(config, rows, tokens) / case[OURS].seconds / rate}
    if PACKED in timings[MIXED]:
        figures["mixed"] = timings[MIXED][PADDED].seconds / timings[MIXED][PACKED].seconds
    if COMPILED in case:
        figures["large_compiled"] = Comparison(OURS, timings).ratio(DECIDING, COMPILED).value
    return figures


def table_of(timings: Timings, model: str) -> list[Row]:
    """Return one row for each side of each case; a ratio above 1 means that the first side is slower than it."""
    return [
        {
            "model": model,
            "case": case,
            "side": side,
            "ms": timing.seconds * 1e3,
            "by_first": timing.seconds / next(iter(sides.values())).seconds,
            "noise": timing.noise,
        }
        for case, sides in timings.items()
        for side, timing in sides.items()
    ]


def _sides(classifier: Classifier, model: Any, setting: Setting) -> dict[str, dict[str, Call]]:
    """Return the sides of batches of one length, which agree."""
    cases: dict[str, dict[str, Call]] = {}
    for case, (count, tokens) in _cases(setting).items():
        rows = rows_of(classifier, count, tokens)
        eager = classify(model, [row.input_ids for row in rows], setting)
        require_agreement(logits_of(classifier, rows), eager(), f"{case}: ours and {EAGER}")
        cases[case] = {OURS: partial(classifier.run, rows), EAGER: eager}
    return cases


def _add_compiled(
    sides: dict[str, dict[str, Call]], classifier: Classifier, model: Any, setting: Setting
) -> list[Absent]:
    """Add the compiled side to the cases that have one; return those that failed."""
    absent = []
    fast = compiled(model)
    for case, (count, tokens) in _cases(setting).items():
        if case in COMPILED_CASES:
            ids = [row.input_ids for row in rows_of(classifier, count, tokens)]
            try:
                sides[case][COMPILED] = attempt(classify(fast, ids, setting), COMPILED)
            except PeerError as error:
                absent.append(Absent(peer=f"{COMPILED}, {case}", reason=str(error)))
    return absent


def _cases(setting: Setting) -> dict[str, tuple[int, int]]:
    return TINY_CASES if setting.tiny else CASES


def _packed(bundle: Bundle, model: Any, setting: Setting) -> tuple[Classifier | None, list[Absent]]:
    """Return the engine on the packed graph, or why it does not run or does not agree."""
    try:
        packed = Classifier(bundle, provider=setting.provider)
        batch = [packed.encode(text, None, truncate=True) for text in read_texts(setting)[1][:BATCH]]
        expected = classify(model, [row.input_ids for row in batch], setting)()
        require_agreement(logits_of(packed, batch), expected, f"{PACKED} and {EAGER}")
    except (ServeError, BenchmarkError) as error:
        return None, [Absent(peer=PACKED, reason=str(error))]
    return packed, []


def _mixed(classifier: Classifier, packed: Classifier | None, model: Any, setting: Setting) -> dict[str, Call]:
    """Return the sides of texts of all lengths, which agree."""
    _, texts = read_texts(setting)
    rows = [classifier.encode(text, None, truncate=True) for text in texts]
    batches = [rows[start : start + BATCH] for start in range(0, len(rows), BATCH)]
    filled = [fill(batch) for batch in batches]
    eager = [classify(model, [row.input_ids for row in batch], setting) for batch in batches]
    if len(batches[0]) < 2:
        raise BenchmarkError(f"{len(texts)} texts are too few")
    require_agreement(logits_of(classifier, batches[0]), eager[0](), f"{MIXED}: ours and {EAGER}")
    sides: dict[str, Call] = {
        MASKED: lambda: [classifier.run(batch) for batch in batches],
        PADDED: lambda: [classifier.run(batch) for batch in filled],
        ENGINE: lambda: classifier(texts),
        EAGER_PADDED: lambda: [run() for run in eager],
    }
    return sides if packed is None else {PACKED: lambda: [packed.run(batch) for batch in batches], **sides}


def without_packed(bundle: Bundle) -> Bundle:
    """Return the bundle without its packed graph, so that a GPU runs the padded one, which it can capture."""
    files = {name: sha256 for name, sha256 in bundle.manifest.files.items() if name != PACKED_GRAPH}
    return replace(bundle, manifest=replace(bundle.manifest, files=files))


def fill(batch: Sequence[EncodedText]) -> list[EncodedText]:
    """Return a batch whose rows are all as long as its longest, repeating their last token: the work of padding."""
    longest = max(map(len, batch))
    return [
        replace(
            row,
            input_ids=row.input_ids + row.input_ids[-1:] * (longest - len(row)),
            token_type_ids=row.token_type_ids + row.token_type_ids[-1:] * (longest - len(row)),
        )
        for row in batch
    ]


def _config(classifier: Classifier) -> dict[str, Any]:
    config: dict[str, Any] = json.loads((classifier.bundle.folder / CONFIG).read_text("utf-8"))
    return {"hidden_size": 768, "num_hidden_layers": 12, "intermediate_size": 3072, **config}
