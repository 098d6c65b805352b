import signal
from dataclasses import replace
from pathlib import Path
from typing import Any

import peft
import pytest
import torch
from torch.nn import functional

from adamix_train.base_model.load import load_classifier
from adamix_train.errors import Interrupted
from adamix_train.mixture.projection import mixtures
from adamix_train.recipe.recipe import Recipe
from adamix_train.run.fit import fit
from adamix_train.run.inputs import read_inputs
from adamix_train.run.prepare import prepare
from adamix_train.run.train import train
from adamix_train.training.module_weights import MODULE_WEIGHTS, set_weights
from tests.adamix_train.conftest import make_writer
from tests.fixtures.example_files import write
from tests.fixtures.training import Signal, assert_equal, small_recipe, weights

FIRST_ALONE = [1.0, 0.0, 0.0, 0.0]


def first_alone(trainer: Any, metric: str) -> None:
    set_weights(mixtures(trainer.model), FIRST_ALONE)


@pytest.mark.slow
def test_what_is_measured_last_and_saved_are_the_modules_that_were_chosen(
    recipe: Recipe, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(MODULE_WEIGHTS, "learned", first_alone)
    run = prepare(read_inputs(replace(recipe, collapse="learned", share="none", epochs=1), resume=False))
    trainer = fit(run)
    base = load_classifier(Path(recipe.base), ["negative", "positive"])
    saved = peft.PeftModel.from_pretrained(base, recipe.out).eval()
    assert [mixture.scores.softmax(0).tolist() for mixture in mixtures(saved)] == [FIRST_ALONE] * 8
    batch = dict(trainer.data_collator(run.validation_rows))
    labels = batch.pop("labels")
    with torch.inference_mode():
        loss = functional.cross_entropy(saved(**batch).logits, labels)
    uniform, chosen = (entry["eval_loss"] for entry in trainer.state.log_history if "eval_loss" in entry)
    assert chosen == pytest.approx(float(loss), abs=1e-5)
    assert abs(uniform - chosen) > 1e-4


@pytest.mark.slow
def test_a_base_without_a_padding_token_reads_the_last_token_of_each_row(tiny_data: Path, tmp_path: Path) -> None:
    base = make_writer(tmp_path / "base", "gpt2")
    run = prepare(read_inputs(small_recipe(base, tiny_data, tmp_path / "run", epochs=1), resume=False))
    assert "<pad>" not in run.tokenizer.all_special_tokens
    model = fit(run).model.eval()
    rows = [[4, 5, 6, 7, 8], [9, 10]]
    batch = run.tokenizer.pad({"input_ids": rows}, padding_side="right", return_tensors="pt")
    with torch.inference_mode():
        alone = [model(input_ids=torch.tensor([row])).logits[0] for row in rows]
        torch.testing.assert_close(model(**batch).logits, torch.stack(alone), atol=1e-5, rtol=1e-5)


def test_the_same_seed_gives_the_same_weights_and_another_does_not(recipe: Recipe, tmp_path: Path) -> None:
    for name, seed in (("a", 0), ("b", 0), ("c", 1)):
        train(replace(recipe, out=str(tmp_path / name), seed=seed, epochs=1))
    assert_equal(weights(tmp_path / "a"), weights(tmp_path / "b"))
    one, other = weights(tmp_path / "a"), weights(tmp_path / "c")
    assert not any(torch.equal(one[name], other[name]) for name in one if name.endswith("down.weight"))


def test_patience_is_resumed(recipe: Recipe) -> None:
    recipe = replace(recipe, learning_rate=0.0, epochs=10, early_stopping=2)
    with pytest.raises(Interrupted):
        train(recipe, callbacks=[Signal(step=11, number=signal.SIGINT)])
    assert train(recipe, resume=True)["steps"] == 3 * 5


def test_early_stopping_ends_a_run_that_gets_no_better(recipe: Recipe) -> None:
    results = train(replace(recipe, learning_rate=0.0, epochs=10, early_stopping=2))
    assert results["steps"] == 3 * 5


SWITCHES = {
    "routing": "batch",
    "labels_on": "first",
    "consistency_from": 0.0,
    "consistency_weight": 0.0,
    "split_after": 0.5,
    "pull": 0.1,
    "module_rate": 2.0,
    "average": "last:0.5",
    "label_smoothing": 0.1,
    "update_unselected": False,
    "class_weights": "balanced",
    "base_dropout": 0.3,
    "warmup_ratio": 0.5,
    "weight_decay": 0.0,
}


@pytest.fixture(scope="module")
def without_switches(tiny_base: Path, tiny_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Recipe:
    """A finished run with routing by example, where a module may be idle, and more rows of one label."""
    rows = tiny_data.read_text().splitlines(keepends=True)
    data = write(tmp_path_factory.mktemp("data"), "train.csv", "".join(rows[:-9]))
    made = small_recipe(tiny_base, data, tmp_path_factory.mktemp("plain") / "run", batch_size=4, epochs=1)
    made = replace(made, routing="example", labels_on="both", consistency_from=0.5)
    train(made)
    return made


@pytest.mark.parametrize("name", SWITCHES)
def test_every_switch_of_a_recipe_reaches_the_training(without_switches: Recipe, name: str, tmp_path: Path) -> None:
    changed = replace(without_switches, out=str(tmp_path / "run"), **{name: SWITCHES[name]})
    train(changed)
    before, after = weights(without_switches.out), weights(changed.out)
    assert any(not torch.equal(before[key], after[key]) for key in before)


def test_a_run_is_repeated_bit_by_bit(without_switches: Recipe, tmp_path: Path) -> None:
    """Else the test before this one would tell nothing."""
    again = replace(without_switches, out=str(tmp_path / "run"))
    train(again)
    assert_equal(weights(without_switches.out), weights(again.out))
