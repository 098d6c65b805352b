from dataclasses import replace
from pathlib import Path

import numpy as np
import peft
import pytest
import torch
from transformers import AutoModelForSequenceClassification

from adamix_train.artifacts.checkpoint import read_card
from adamix_train.base_model.load import load_base, load_classifier, load_tokenizer
from adamix_train.data.splits import read_all, task_of
from adamix_train.errors import RecipeError
from adamix_train.metrics.table import METRICS
from adamix_train.recipe.recipe import METHODS as NAMES
from adamix_train.recipe.recipe import Recipe
from adamix_train.run.train import train
from adamix_train.training.methods import METHODS, build_trainable_model, trained_heads
from adamix_train.training.objectives import OBJECTIVES
from tests.adamix_train.conftest import make_writer
from tests.fixtures.tiny_models import ENCODERS, tiny_inputs, tiny_model

CLASSIFICATION = OBJECTIVES["classification"]


@pytest.fixture
def recipe(tiny_base: Path, tiny_data: Path, tmp_path: Path) -> Recipe:
    return Recipe(
        base=str(tiny_base),
        train_file=str(tiny_data),
        test_file=str(tiny_data),
        out=str(tmp_path / "run"),
        validation_share=0.25,
        r=4,
        epochs=2,
        batch_size=8,
        learning_rate=1e-2,
        max_length=16,
        report_to="none",
    )


def trained_names(recipe: Recipe) -> set[str]:
    base = load_base(Path(recipe.base), CLASSIFICATION.model, **CLASSIFICATION.settings(["a", "b"]))
    model = build_trainable_model(base, recipe, CLASSIFICATION)
    return {name for name, weight in model.named_parameters() if weight.requires_grad}


def test_the_table_and_the_recipe_name_the_same_methods() -> None:
    assert tuple(METHODS) == NAMES


def test_each_method_trains_what_it_says(recipe: Recipe) -> None:
    head = {"classifier.weight", "classifier.bias"}
    assert trained_names(replace(recipe, method="head")) == head
    everything = trained_names(replace(recipe, method="full"))
    assert head < everything
    assert "bert.embeddings.word_embeddings.weight" in everything
    for method, marker in (("adamix", ".adamix_modules."), ("peft-lora", ".lora_")):
        names = trained_names(replace(recipe, method=method))
        assert all(marker in name or ".classifier." in name for name in names)
        assert any(marker in name for name in names)


def test_one_module_has_the_weights_of_the_paper_s_baseline(recipe: Recipe) -> None:
    """A LoRA mixture of one module trains as many weights as PEFT's LoRA of the same rank."""

    def count(method: str) -> int:
        base = load_base(Path(recipe.base), CLASSIFICATION.model, **CLASSIFICATION.settings(["a", "b"]))
        model = build_trainable_model(base, replace(recipe, method=method, kind="lora", num_modules=1), CLASSIFICATION)
        return sum(weight.numel() for weight in model.parameters() if weight.requires_grad)

    assert count("adamix") == count("peft-lora")


@pytest.mark.parametrize("method", ["peft-lora", "head", "full"])
def test_a_baseline_trains_and_loads_where_its_format_is_from(recipe: Recipe, method: str) -> None:
    results = train(replace(recipe, method=method))
    out = Path(recipe.out)
    assert read_card(out).recipe["method"] == method
    base = load_classifier(Path(recipe.base), results["labels"])
    model = (
        peft.PeftModel.from_pretrained(base, out)
        if method == "peft-lora"
        else AutoModelForSequenceClassification.from_pretrained(out)
    )
    examples = read_all(recipe.test_file or "", task_of(recipe))
    tokenizer = load_tokenizer(Path(recipe.base))
    inputs = tokenizer([example.texts[0] for example in examples], padding=True, return_tensors="pt")
    labels = np.array([results["labels"].index(example.target) for example in examples])
    with torch.inference_mode():
        logits = model.eval()(**inputs).logits
    assert METRICS["accuracy"](logits.numpy(), labels) == results["test_accuracy"]
    loss = torch.nn.functional.cross_entropy(logits, torch.tensor(labels))
    assert float(loss) == pytest.approx(logged(results, "test_loss"), rel=1e-4)


def logged(results: dict[str, object], name: str) -> float:
    (value,) = [entry[name] for entry in results["history"] if name in entry]
    return value


def test_an_encoder_decoder_classifies(tmp_path: Path, tiny_data: Path) -> None:
    base = make_writer(tmp_path / "t5", "t5")
    recipe = Recipe(
        base=str(base),
        train_file=str(tiny_data),
        test_file=str(tiny_data),
        out=str(tmp_path / "run"),
        validation_share=0.25,
        method="full",
        epochs=12,
        batch_size=8,
        learning_rate=1e-2,
        max_length=16,
        report_to="none",
    )
    assert train(recipe)["test_accuracy"] > 0.9
    mixture = train(replace(recipe, method="adamix", kind="lora", epochs=2, out=str(tmp_path / "mixture")))
    assert {entry["step"] for entry in mixture["history"] if "eval_loss" in entry} == {5, 10}


def test_a_decoder_classifies_padded_batches(tmp_path: Path) -> None:
    base = make_writer(tmp_path / "llama", "llama")
    rows = [
        f"{'the ' * (number % 4)}{word},{tone}" for number in range(6) for word, tone in (("good", "p"), ("bad", "n"))
    ]
    (tmp_path / "d.csv").write_text("\n".join(["text,label", *rows]) + "\n")
    recipe = Recipe(
        base=str(base),
        train_file=str(tmp_path / "d.csv"),
        test_file=str(tmp_path / "d.csv"),
        out=str(tmp_path / "run"),
        validation_share=0.25,
        method="full",
        epochs=20,
        eval_steps=20,
        batch_size=4,
        learning_rate=1e-2,
        max_length=16,
        report_to="none",
    )
    assert train(recipe)["test_accuracy"] == 1.0


def test_one_adapter_can_have_the_consistency_loss_from_dropout_alone(recipe: Recipe) -> None:
    alone, consistent = (
        train(replace(recipe, num_modules=1, consistency_weight=weight, out=f"{recipe.out}{weight}"))
        for weight in (0.0, 5.0)
    )
    assert alone["trained_parameters"] == consistent["trained_parameters"]
    assert alone["history"][0]["loss"] != consistent["history"][0]["loss"]


@pytest.mark.parametrize("family", ENCODERS)
def test_every_part_of_a_new_head_is_trained_and_saved(family: str, tmp_path: Path) -> None:
    """DistilBERT, DeBERTa, ModernBERT and others have more in their heads than a classifier."""
    tiny_model(family).base_model.save_pretrained(tmp_path / "base")
    recipe = Recipe(base=str(tmp_path / "base"), out=str(tmp_path / "out"), r=2)
    torch.manual_seed(3)
    base = load_base(tmp_path / "base", CLASSIFICATION.model, **CLASSIFICATION.settings(["a", "b"]))
    new = {f"{name}." for name in trained_heads(base)}
    model = build_trainable_model(base, recipe, CLASSIFICATION).eval()
    frozen = [name for name, weight in model.base_model.model.named_parameters() if not weight.requires_grad]
    assert not [name for name in frozen if name.startswith(tuple(new)) and ".original_module." not in name]
    model.save_pretrained(tmp_path / "adapter")
    torch.manual_seed(4)
    again = load_base(tmp_path / "base", CLASSIFICATION.model, **CLASSIFICATION.settings(["a", "b"])).model
    loaded = peft.PeftModel.from_pretrained(again, tmp_path / "adapter").eval()
    with torch.inference_mode():
        inputs = tiny_inputs(family)
        torch.testing.assert_close(loaded(**inputs).logits, model(**inputs).logits)


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
        kind="lora",
        epochs=40,
        learning_rate=2e-2,
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
            learning_rate=3e-3,
        )
    )
    assert results["test_accuracy"] == 1.0, "neither text tells it alone"
