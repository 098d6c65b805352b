import json
from dataclasses import replace
from pathlib import Path

import pytest

from adamix_train.errors import RecipeError
from adamix_train.recipe.recipe import Recipe
from adamix_train.run.train import train
from tests.fixtures.training import generation_recipe, small_recipe


def test_an_encoder_decoder_classifies(generative_bases: dict[str, Path], tiny_data: Path, tmp_path: Path) -> None:
    recipe = small_recipe(
        generative_bases["t5"], tiny_data, tmp_path / "run", method="full", epochs=12, eval_steps=30, learning_rate=1e-2
    )
    assert train(recipe)["test_accuracy"] > 0.9
    mixture = train(replace(recipe, method="adamix", epochs=2, eval_steps=None, out=str(tmp_path / "mixture")))
    assert {entry["step"] for entry in mixture["history"] if "eval_loss" in entry} == set(range(1, 11)), (
        "ten evaluations"
    )


def test_a_decoder_classifies_padded_batches(generative_bases: dict[str, Path], tmp_path: Path) -> None:
    rows = [
        f"{'the ' * (number % 4)}{word},{tone}" for number in range(6) for word, tone in (("good", "p"), ("bad", "n"))
    ]
    (tmp_path / "d.csv").write_text("\n".join(["text,label", *rows]) + "\n")
    recipe = small_recipe(
        generative_bases["llama"],
        tmp_path / "d.csv",
        tmp_path / "run",
        method="full",
        epochs=20,
        eval_steps=20,
        batch_size=4,
        learning_rate=1e-2,
    )
    assert train(recipe)["test_accuracy"] == 1.0


@pytest.mark.parametrize("family", ["gpt2", "llama", "t5"])
def test_a_metric_does_not_depend_on_the_batch(family: str, generative_bases: dict[str, Path], tmp_path: Path) -> None:
    """The padding token is the end-of-sequence token but in T5: the one that is read is before it."""
    end = "" if family == "t5" else "</s>"
    rows = [
        f"{'the ' * (number % 5)}{word} {end * (number % 2)},{tone}"
        for number in range(8)
        for word, tone in (("good", "p"), ("bad", "n"), ("fine", "p"), ("awful", "n"))
    ]
    (tmp_path / "d.csv").write_text("\n".join(["text,label", *rows]) + "\n")
    recipe = small_recipe(generative_bases[family], tmp_path / "d.csv", tmp_path / "run", epochs=1, batch_size=16)
    one, many = (train(replace(recipe, eval_batch_size=size, out=str(tmp_path / str(size)))) for size in (1, 128))
    assert one["test_accuracy"] == many["test_accuracy"]
    losses = [[entry["eval_loss"] for entry in run["history"] if "eval_loss" in entry] for run in (one, many)]
    assert losses[0] == pytest.approx(losses[1], abs=1e-5)


def test_a_regression_is_learned_and_has_no_consistency(recipe: Recipe, tmp_path: Path) -> None:
    words = {"good": 2.0, "fine": 1.0, "poor": -1.0, "awful": -2.0}
    lines = [
        f"{start} {noun} was {word},{score}"
        for start in ("the", "my", "a")
        for noun in ("shop", "parcel")
        for word, score in words.items()
    ]
    (tmp_path / "scores.csv").write_text("\n".join(["text,score", *lines]) + "\n")
    recipe = replace(
        recipe,
        task="regression",
        train_file=str(tmp_path / "scores.csv"),
        test_file=str(tmp_path / "scores.csv"),
        epochs=40,
        eval_steps=40,
    )
    with pytest.raises(RecipeError, match="a regression has no consistency loss"):
        train(replace(recipe, consistency_weight=1.0))
    results = train(recipe)
    assert results["test_pearson"] > 0.8
    assert -1 <= results["test_spearman"] <= 1


def test_a_pair_is_learned_from_both_texts(recipe: Recipe, tmp_path: Path) -> None:
    rows = [
        f"{one} parcel,{other} parcel,{'same' if one == other else 'other'}"
        for one in ("good", "bad")
        for other in ("good", "bad")
    ]
    (tmp_path / "pairs.csv").write_text("\n".join(["text,pair,label", *(rows * 8)]) + "\n")
    file = str(tmp_path / "pairs.csv")
    results = train(
        replace(
            recipe,
            task="pair-classification",
            train_file=file,
            test_file=file,
            method="full",
            epochs=25,
            eval_steps=25,
            learning_rate=3e-3,
        )
    )
    assert results["test_accuracy"] == 1.0, "neither text tells it alone"


@pytest.mark.parametrize("family", ["gpt2", "llama", "t5"])
def test_a_model_learns_to_generate(
    family: str, generative_bases: dict[str, Path], writing_data: Path, tmp_path: Path
) -> None:
    """All weights are trained: adapters of a random base have nothing to work on."""
    results = train(
        generation_recipe(
            generative_bases[family],
            writing_data,
            tmp_path / "run",
            method="full",
            epochs=80,
            eval_steps=80,
            learning_rate=1e-2,
        )
    )
    assert results["test_rouge_l"] > 0.6
    assert results["test_bleu"] > 30
    lines = [json.loads(line) for line in (tmp_path / "run" / "generated.jsonl").read_text().splitlines()]
    assert len(lines) == 16, "one text for each input"
    assert all(len(line["references"]) == 2 for line in lines)


@pytest.mark.parametrize("kind", ["houlsby", "lora"])
@pytest.mark.parametrize("family", ["gpt2", "llama", "t5"])
def test_a_mixture_lowers_the_loss(
    family: str, kind: str, generative_bases: dict[str, Path], writing_data: Path, tmp_path: Path
) -> None:
    results = train(
        generation_recipe(
            generative_bases[family],
            writing_data,
            tmp_path / "run",
            kind=kind,
            consistency_weight=1.0,
            epochs=3,
            learning_rate=1e-2,
            max_new_tokens=4,
        )
    )
    losses = [entry["eval_loss"] for entry in results["history"] if "eval_loss" in entry]
    assert losses[-1] < losses[0]
