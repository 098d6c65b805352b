import json
from dataclasses import replace
from pathlib import Path

import pytest

from adamix_train.artifacts.checkpoint import read_card
from adamix_train.errors import RecipeError
from adamix_train.recipe.recipe import Recipe
from adamix_train.run.train import train
from adamix_train.training.device import training_device
from tests.fixtures.training import generation_recipe


def test_without_test_data_a_model_generates_for_the_validation_data(
    generative_bases: dict[str, Path], writing_data: Path, tmp_path: Path
) -> None:
    given = generation_recipe(generative_bases["llama"], writing_data, tmp_path / "run", epochs=1, method="full")
    results = train(replace(given, test_file=None))
    assert 0 <= results["bleu"] <= 100
    assert "test_bleu" not in results


def test_a_run_reports_to_tensorboard_and_draws_its_curve(recipe: Recipe) -> None:
    assert Recipe(base="b", out="o").report_to == "tensorboard"
    train(replace(recipe, report_to="tensorboard", epochs=1))
    out = Path(recipe.out)
    assert list(out.rglob("events.out.tfevents.*"))
    assert (out / "curve.png").read_bytes().startswith(b"\x89PNG")


def test_the_record_names_the_device(shared_run: Recipe) -> None:
    results = json.loads((Path(shared_run.out) / "results.json").read_text())
    assert results["device"] == training_device().as_dict()


@pytest.mark.parametrize("data", ["test", "validation"])
def test_a_classifiers_results_by_label_agree_with_its_accuracy(recipe: Recipe, data: str) -> None:
    results = train(replace(recipe, epochs=1, test_file=recipe.test_file if data == "test" else None))
    prefix = "test_" if data == "test" else ""
    assert results["classes"]["data"] == data
    rows = results["classes"]["labels"].values()
    right = sum(row["recall"] * row["examples"] for row in rows) / sum(row["examples"] for row in rows)
    assert right == pytest.approx(results[f"{prefix}accuracy"])
    assert sum(row["f1"] for row in rows) / 2 == pytest.approx(results[f"{prefix}macro_f1"])
    assert (Path(recipe.out) / "confusion.png").read_bytes().startswith(b"\x89PNG")


def test_the_lowest_loss_can_select_the_checkpoint(recipe: Recipe) -> None:
    results = train(replace(recipe, metric="loss", epochs=4, learning_rate=0.2))
    losses = {one["step"]: one["eval_loss"] for one in results["history"] if "eval_loss" in one}
    assert results["best_step"] == min(losses, key=lambda step: losses[step])
    assert read_card(Path(recipe.out)).metric == "accuracy"


def test_a_named_metric_selects_the_checkpoint(recipe: Recipe) -> None:
    train(replace(recipe, metric="macro_f1"))
    out = Path(recipe.out)
    card = read_card(out)
    history = json.loads((out / "results.json").read_text())["history"]
    assert card.metric == "macro_f1"
    assert card.metrics["macro_f1"] == max(one["eval_macro_f1"] for one in history if "eval_macro_f1" in one)
    with pytest.raises(RecipeError, match=r"metric is 'f1'; .* classification are selected by accuracy, macro_f1, mat"):
        train(replace(recipe, metric="f1", out=recipe.out + "2"))


def test_advice_is_that_of_the_run(recipe: Recipe) -> None:
    """At a rate of 0 nothing is learned, of 12 validation rows, in 10 steps."""
    advice = train(replace(recipe, learning_rate=0.0))["advice"]
    for begins, found in zip(("Next to nothing", "Validation accuracy", "10 steps are few"), advice, strict=True):
        assert found.startswith(begins)
    assert json.loads((Path(recipe.out) / "results.json").read_text())["advice"] == advice
