"""The choices of a run that says nothing, computed by hand from the rule in the docstrings."""

from dataclasses import replace

import pytest

from adamix_train.mixture.kinds import KINDS
from adamix_train.recipe.defaults import CHOICES, Situation, complete
from adamix_train.recipe.recipe import METHODS, Recipe

OPEN = Recipe(base="b", out="o")
MINILM = Situation(rows=288, width=384)
VIEWS = ("routing", "consistency_from", "labels_on")


def chosen(recipe: Recipe = OPEN, situation: Situation = MINILM) -> tuple[object, ...]:
    full = complete(recipe, situation).recipe
    return full.batch_size, full.epochs, full.learning_rate, full.eval_steps


def test_a_small_set_is_gone_through_often_enough() -> None:
    """18 steps a pass, 34 passes for 600 steps, 612 in all; 20 evaluations at most."""
    assert chosen() == (16, 34.0, 4e-3, 30)


@pytest.mark.parametrize(
    ("rows", "expected"),
    [
        (20, (16, 40.0, 4e-3, 4)),  # 2 steps a pass, 80 in all
        (100, (16, 40.0, 4e-3, 14)),  # 7 a pass, 280 in all
        (1_000, (16, 10.0, 4e-3, 63)),  # 63 a pass: an evaluation each
        (4_999, (16, 3.0, 4e-3, 93)),  # 313 a pass, 939 in all: ten evaluations at least
        (5_000, (32, 4.0, 5.7e-3, 62)),  # 157 a pass; the rate by the square root of 32 / 16
        (100_000, (32, 3.0, 5.7e-3, 937)),  # 3,125 a pass
    ],
)
def test_settings_follow_the_rows(rows: int, expected: tuple[object, ...]) -> None:
    assert chosen(situation=replace(MINILM, rows=rows)) == expected


def test_what_is_said_is_kept_and_the_rest_fits_it() -> None:
    """64 rows a step: 5 steps a pass, 40 passes; the rate twice that of 16 rows."""
    full = complete(replace(OPEN, batch_size=32, gradient_accumulation=2), MINILM)
    assert (full.recipe.batch_size, full.recipe.epochs, full.recipe.learning_rate) == (32, 40.0, 8e-3)
    assert list(full.because) == [*VIEWS, "epochs", "learning_rate", "warmup_ratio", "eval_steps"]
    said = replace(OPEN, batch_size=8, epochs=2.5, learning_rate=0.0, warmup_ratio=0.0, eval_steps=7)
    said = replace(said, routing="example", consistency_from=0.0, labels_on="both")
    assert complete(said, MINILM).recipe == said
    assert complete(said, MINILM).because == {}


def test_a_warm_up_is_said_in_steps() -> None:
    """0.06 × 612 = 36.72."""
    full = complete(OPEN, MINILM)
    assert full.recipe.warmup_ratio == 0.06
    assert "rises for 37 of 612 steps" in full.because["warmup_ratio"]


def test_processes_share_a_step() -> None:
    assert chosen(situation=replace(MINILM, processes=4)) == chosen(replace(OPEN, gradient_accumulation=4))


def test_a_wider_base_takes_a_lower_rate() -> None:
    """(384 / 768) ** 1.5 = 0.354; a narrower base takes the same."""
    assert chosen(situation=replace(MINILM, width=768))[2] == 1.4e-3
    assert chosen(situation=replace(MINILM, width=128))[2] == 4e-3


@pytest.mark.parametrize(("kind", "rates"), [("houlsby", (4e-3, 2e-3)), ("lora", (4e-3, 3e-3))])
def test_one_adapter_sees_every_row_and_takes_a_lower_rate(kind: str, rates: tuple[float, float]) -> None:
    assert tuple(chosen(replace(OPEN, kind=kind, num_modules=count))[2] for count in (4, 1)) == rates


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("count", [1, 4])
def test_every_kind_has_a_rate(kind: str, count: int) -> None:
    assert complete(replace(OPEN, kind=kind, num_modules=count), MINILM).recipe.learning_rate


@pytest.mark.parametrize("method", METHODS)
def test_every_method_has_a_rate(method: str) -> None:
    full = complete(replace(OPEN, method=method), MINILM)
    assert full.recipe.learning_rate
    assert all(getattr(full.recipe, name) is not None for name in CHOICES)
    unused = () if method == "adamix" else VIEWS
    assert list(full.because) == [name for name in CHOICES if name not in unused]


PUBLISHED = ("batch", 0.0, "first")


@pytest.mark.parametrize(
    ("said", "task", "expected", "told"),
    [
        ({}, "classification", ("shares", 0.5, "both"), VIEWS),
        ({"kind": "lora"}, "classification", ("shares", 0.5, "both"), VIEWS),
        ({}, "generation", PUBLISHED, ("routing",)),
        ({}, "regression", PUBLISHED, ("routing",)),
        ({"num_modules": 1}, "classification", PUBLISHED, ()),
        ({"num_modules": 1, "consistency_weight": 1.0}, "classification", PUBLISHED, ()),
        ({"method": "full"}, "classification", PUBLISHED, ()),
        ({"routing": "batch"}, "classification", PUBLISHED, ()),
        ({"consistency_weight": 0.0}, "classification", ("shares", 0.0, "first"), ("routing",)),
        ({"consistency_weight": 0.0, "labels_on": "both"}, "classification", ("shares", 0.0, "both"), ("routing",)),
        ({"routing": "shares"}, "regression", ("shares", 0.0, "first"), ()),
        ({"routing": "shares"}, "generation", ("shares", 0.0, "first"), ()),
        ({"routing": "shares"}, "classification", ("shares", 0.5, "both"), ("consistency_from", "labels_on")),
        ({"routing": "shares", "num_modules": 1}, "classification", ("shares", 0.0, "first"), ()),
        ({"routing": "shares", "method": "peft-lora"}, "classification", ("shares", 0.0, "first"), ()),
        ({"consistency_from": 0.0}, "classification", ("shares", 0.0, "both"), ("routing", "labels_on")),
    ],
)
def test_routes_and_views_follow_the_task(
    said: dict[str, object], task: str, expected: tuple[object, ...], told: tuple[str, ...]
) -> None:
    """Equal shares, with a second view in the second half and labels on both, where the protocol measured them."""
    full = complete(replace(OPEN, **said), replace(MINILM, task=task))  # type: ignore[arg-type]
    assert tuple(getattr(full.recipe, name) for name in VIEWS) == expected
    assert tuple(name for name in full.because if name in VIEWS) == told
