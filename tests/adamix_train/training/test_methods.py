import json
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
from tests.fixtures.tiny_models import ENCODERS, tiny_inputs, tiny_model
from tests.fixtures.training import generation_recipe

CLASSIFICATION = OBJECTIVES["classification"]


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


def test_a_base_without_a_head_has_none_to_train(
    generative_bases: dict[str, Path], writing_data: Path, tmp_path: Path
) -> None:
    with pytest.raises(RecipeError, match="method head trains a head, and this model has none"):
        train(generation_recipe(generative_bases["llama"], writing_data, tmp_path / "run", method="head"))


def test_a_recipe_keeps_its_switches(recipe: Recipe) -> None:
    train(replace(recipe, sites="attention,feed_forward", kind="pfeiffer", share="none", epochs=1))
    config = json.loads((Path(recipe.out) / "adapter_config.json").read_text())
    assert config["sites"] == ["attention", "feed_forward"]
    assert config["kind"] == "pfeiffer"
