"""Advice at the end of a run; losses of guessers and standard errors are computed by hand."""

import math
from dataclasses import replace

import pytest

from adamix_train.recipe.recipe import Recipe
from adamix_train.run.advice import Course, advise, guessed_loss

LEARNED = Course(
    recipe=Recipe(base="b", out="o", learning_rate=1e-3, epochs=10.0),
    kind="classification",
    train_targets=["a"] * 30 + ["b"] * 10,
    validation_targets=["a"] * 300 + ["b"] * 100,
    train_losses=[0.6, 0.3, 0.1],
    validation_losses=[0.5, 0.2],
    metrics={"accuracy": 0.9},
    steps=600,
)


def test_a_run_that_learned_gets_no_advice() -> None:
    assert advise(LEARNED) == []


def test_a_guesser_answers_by_shares() -> None:
    """31 of 42 and 11 of 42: each label counts once more."""
    expected = -0.75 * math.log(31 / 42) - 0.25 * math.log(11 / 42)
    assert guessed_loss(LEARNED) == pytest.approx(expected)


def test_a_guesser_answers_with_the_mean() -> None:
    scores = replace(LEARNED, kind="regression", train_targets=["1", "3"], validation_targets=["2", "5"])
    assert guessed_loss(scores) == pytest.approx(4.5)
    assert guessed_loss(replace(LEARNED, kind="generation")) is None


def test_a_label_that_validation_alone_has_is_not_impossible() -> None:
    assert math.isfinite(guessed_loss(replace(LEARNED, validation_targets=["c"])) or math.inf)


@pytest.mark.parametrize("kind", ["classification", "regression"])
def test_a_loss_like_a_guessers_is_told_with_what_to_try(kind: str) -> None:
    same = replace(LEARNED, kind=kind, train_targets=["0", "1"] * 20, validation_targets=["0", "1"] * 200)
    guess = guessed_loss(same) or 0.0
    (advice,) = advise(replace(same, validation_losses=[2 * guess, 0.96 * guess]))
    assert "Next to nothing was learned" in advice
    assert "--learning-rate 0.001" in advice
    assert "--epochs than 10 (600 steps)" in advice
    assert advise(replace(same, validation_losses=[2 * guess, 0.94 * guess])) == []


def test_a_loss_that_rises_with_the_second_view_is_no_divergence() -> None:
    """From then on it has the consistency loss in it, while the validation loss goes on falling."""
    writer = replace(LEARNED, kind="generation", metrics={}, train_losses=[2.6, 3.3], validation_losses=[1.9, 1.7])
    assert advise(writer) == []
    assert "diverged" in advise(replace(writer, validation_losses=[1.7, 1.9]))[0]
    assert "diverged" in advise(replace(writer, validation_losses=[1.9]))[0]


def test_a_writer_that_goes_on_from_another_run_may_stand_still() -> None:
    begun = replace(LEARNED.recipe, init_from="runs/first")
    writer = replace(LEARNED, kind="generation", metrics={}, train_losses=[1.6, 1.58], validation_losses=[1.6])
    assert advise(replace(writer, recipe=begun)) == []


def test_a_writer_whose_loss_stood_still_is_told() -> None:
    writer = replace(LEARNED, kind="generation", metrics={}, train_losses=[2.0, 1.99], validation_losses=[2.0, 1.99])
    assert "barely moved, from 2 to 1.99" in advise(writer)[0]
    assert advise(replace(writer, train_losses=[2.0, 1.9])) == []
    assert advise(replace(writer, train_losses=[2.0])) == []
    assert advise(replace(writer, train_losses=[])) == []


@pytest.mark.parametrize("kind", ["generation", "classification"])
def test_a_loss_that_rose_is_told_once(kind: str) -> None:
    """Even if the validation loss is that of a guesser as well."""
    rose = replace(LEARNED, kind=kind, metrics={}, train_losses=[2.0, 1.0, 3.0], validation_losses=[9.0])
    (advice,) = advise(rose)
    assert "rose from 2 to 3" in advice
    assert "a quarter of --learning-rate 0.001" in advice


def test_what_labels_weigh_is_not_compared_with_a_guesser_to_whom_they_weigh_the_same() -> None:
    weighted = replace(LEARNED, recipe=replace(LEARNED.recipe, class_weights="balanced"), validation_losses=[9.0])
    assert advise(weighted) == []
    assert "barely moved" in advise(replace(weighted, train_losses=[0.6, 0.599]))[0]


def test_few_validation_rows_cannot_tell() -> None:
    """(0.9 × 18 + 1) / 20 = 0.86; √(0.86 × 0.14 / 18) = 0.0818. With 200 rows: 0.021."""
    (advice,) = advise(replace(LEARNED, validation_targets=["a", "b"] * 9))
    assert "0.900 is of 18 rows, with a standard error of 0.082" in advice
    assert advise(replace(LEARNED, validation_targets=["a", "b"] * 100)) == []


def test_all_right_is_not_certain() -> None:
    assert advise(replace(LEARNED, metrics={"accuracy": 1.0}, validation_targets=["a", "b"] * 2))


def test_few_scores_cannot_tell() -> None:
    """0.9 × 36 / 40 = 0.81; (1 - 0.81²) / √33 = 0.0599. Two points are always on a line."""
    scores = replace(LEARNED, kind="regression", train_targets=["1", "9"], validation_losses=[0.1])
    (advice,) = advise(replace(scores, metrics={"pearson": 0.9}, validation_targets=["1", "9"] * 18))
    assert "Validation pearson 0.900 is of 36 rows, with a standard error of 0.060" in advice
    assert advise(replace(scores, metrics={"pearson": 0.9}, validation_targets=["1", "9"] * 100)) == []
    assert advise(replace(scores, metrics={"pearson": 1.0}, validation_targets=["1", "9"]))


def test_a_short_run_of_a_mixture_is_told_that_one_adapter_is_better() -> None:
    short = replace(LEARNED, steps=149)
    assert "149 steps are few for a mixture" in advise(short)[0]
    assert "--num-modules 1" in advise(short)[0]
    assert advise(replace(short, steps=150)) == []
    assert advise(replace(short, recipe=replace(LEARNED.recipe, num_modules=1))) == []
    assert advise(replace(short, kind="generation")) == []
