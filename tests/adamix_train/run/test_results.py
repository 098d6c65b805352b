import json
from dataclasses import replace
from pathlib import Path

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
