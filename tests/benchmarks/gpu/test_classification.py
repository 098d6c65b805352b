from collections.abc import Callable, Iterator

import numpy as np
import pytest

from benchmarks.gpu import classification
from benchmarks.gpu.bundles import open_prepared
from benchmarks.gpu.classification import (
    DECIDING,
    MIXED,
    OURS,
    PACKED,
    PADDED,
    figures_of,
    fill,
    flops,
    logits_of,
    measure_large,
    measure_small,
    rows_of,
    table_of,
)
from benchmarks.gpu.outcome import Outcome
from benchmarks.gpu.setting import Setting
from benchmarks.gpu.torch_sides import COMPILED
from benchmarks.support.rounds import Timing
from serve.bundle.adapter import Adapter
from serve.bundle.reader import Bundle
from serve.classification.classifier import Classifier
from serve.classification.text_tokenizer import EncodedText
from serve.errors import BundleError

CONFIG = {"hidden_size": 1024, "num_hidden_layers": 24, "intermediate_size": 4096}


def test_operations_are_counted_by_hand() -> None:
    one = {"hidden_size": 2, "num_hidden_layers": 1, "intermediate_size": 8}
    # Three tokens: four projections of 2x2, two of 2x8, and scores and mixtures of 3x2 each.
    assert flops(one, 1, 3) == 2 * 3 * (4 * 4 + 2 * 16 + 2 * 3 * 2)
    # Two a weight and token, without the attention: RoBERTa-large has 302 million weights in its layers.
    assert flops(CONFIG, 1, 1) == pytest.approx(2 * 302e6, rel=0.01)


def test_figures_are_those_of_the_deciding_case() -> None:
    timings = {
        DECIDING: {OURS: Timing([0.01]), COMPILED: Timing([0.012])},
        MIXED: {PACKED: Timing([0.1]), PADDED: Timing([0.19])},
    }
    figures = figures_of(timings, CONFIG, rate=flops(CONFIG, 64, 128) / 0.006)
    assert figures == pytest.approx({"large_share": 0.6, "mixed": 1.9, "large_compiled": 1.2})
    del timings[DECIDING][COMPILED]
    assert "large_compiled" not in figures_of(timings, CONFIG, rate=1.0)


def test_a_table_has_a_row_for_each_side() -> None:
    one, two = table_of({"1x16": {OURS: Timing([0.001]), "pytorch": Timing([0.003])}}, "minilm")
    assert one == {"model": "minilm", "case": "1x16", "side": OURS, "ms": 1.0, "by_first": 1.0, "noise": 0.0}
    assert (two["side"], two["by_first"]) == ("pytorch", pytest.approx(3.0))


def test_filled_rows_are_as_long_as_the_longest() -> None:
    adapter = object.__new__(Adapter)
    rows = [EncodedText([2, 9, 3], [0, 0, 0], adapter), EncodedText([2], [0], adapter)]
    assert [row.input_ids for row in fill(rows)] == [[2, 9, 3], [2, 2, 2]]
    assert [len(row.token_type_ids) for row in fill(rows)] == [3, 3]


@pytest.mark.slow
def test_random_rows_are_of_the_vocabulary_and_give_logits(prepared: Setting) -> None:
    classifier = Classifier(open_prepared("minilm-lora-merged", prepared), provider="cpu")
    rows = rows_of(classifier, 3, 7)
    assert {len(row) for row in rows} == {7}
    assert all(5 <= token < 300 for row in rows for token in row.input_ids)
    logits = logits_of(classifier, rows)
    assert logits.shape == (3, 2) and np.isfinite(logits).all()


@pytest.mark.slow
@pytest.mark.parametrize(("measure", "model"), [(measure_small, "minilm"), (measure_large, "roberta-large")])
def test_a_rehearsal_measures_every_case(
    measure: Callable[[Setting], Iterator[Outcome]], model: str, made: Setting, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(classification, "compiled", lambda model: model)
    eager, outcome = measure(made)
    assert not any(row["side"] == COMPILED for row in eager.rows)
    found = {(row["case"], row["side"]) for row in outcome.rows}
    assert {("1x16", OURS), ("1x16", "pytorch"), ("1x16", COMPILED), ("4x8", OURS), (MIXED, PACKED)} <= found
    assert {row["model"] for row in outcome.rows} == {model}
    assert not outcome.absent and "made-up words" in outcome.notes[-1]


@pytest.mark.slow
def test_a_compiler_that_fails_is_named(made: Setting, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(**_: object) -> object:
        raise RuntimeError("no compiler")

    monkeypatch.setattr(classification, "compiled", lambda model: broken)
    *_, outcome = measure_small(made)
    (absent,) = outcome.absent
    assert (absent.peer, absent.reason) == ("torch.compile, 1x16", "torch.compile failed: no compiler")


@pytest.mark.slow
def test_a_packed_graph_that_fails_is_named_and_the_rest_measured(
    made: Setting, monkeypatch: pytest.MonkeyPatch
) -> None:
    def opened(bundle: Bundle, **options: object) -> Classifier:
        if bundle.packed:
            raise BundleError("no kernel")
        return Classifier(bundle, **options)  # type: ignore[arg-type]

    monkeypatch.setattr(classification, "Classifier", opened)
    outcome = next(iter(measure_small(made)))
    (absent,) = outcome.absent
    assert (absent.peer, absent.reason) == ("packed", "no kernel")
    sides = {row["side"] for row in outcome.rows if row["case"] == MIXED}
    assert sides == {"masked", "padded", "engine, sorted", "pytorch, padded"}
    assert "mixed" not in outcome.figures
