import pytest

from adamix_train.errors import RecipeError
from adamix_train.recipe.flags import make_recipe
from adamix_train.recipe.recipe import Recipe

NEEDED = {"base": "b", "train_file": "t.csv", "out": "o"}


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"learning_rat": 1}, "unknown field 'learning_rat'.*did you mean 'learning_rate'"),
        ({"r": "many"}, "r is 'many'; it takes a whole number"),
        ({"r": 2.5}, "r is 2.5; it takes a whole number"),
        ({"r": None}, "r is None"),
        ({"r": True}, "r is True"),
        ({"num_modules": 0}, "num_modules is 0; it must be positive"),
        ({"epochs": 0}, "epochs is 0"),
        ({"learning_rate": -1}, "learning_rate is -1"),
        ({"learning_rate": float("nan")}, "learning_rate is nan; it must be a finite number"),
        ({"lora_alpha": "inf"}, "lora_alpha is inf"),
        ({"kind": "prefix"}, "kind is 'prefix'; known are houlsby, lora"),
        ({"task": "colour"}, "task is 'colour'; known are classification, pair-"),
        ({"share": "both"}, "share is 'both'; known are up, down, none"),
        ({"validation_share": 1.0}, "validation_share is 1.0"),
        ({"seed": 1 << 32}, "seed is 4294967296; it must be below"),
        ({"target_modules": ["query"]}, r"target_modules is \['query'\]; it takes a text"),
        ({"base": {"a": 1}}, r"base is \{'a': 1\}; it takes a text"),
    ],
)
def test_an_error_names_the_field_and_its_values(values: dict[str, object], message: str) -> None:
    with pytest.raises(RecipeError, match=message):
        make_recipe(None, {**NEEDED, **values})


def test_a_prompt_without_a_place_for_the_input_is_refused() -> None:
    with pytest.raises(RecipeError, match=r"must contain \{input\}"):
        Recipe(base="b", out="o", task="generation", prompt="Write:")


def test_a_fixed_route_leaves_nothing_to_weigh() -> None:
    with pytest.raises(RecipeError, match="a fixed route trains one module of each mixture"):
        Recipe(base="b", out="o", routing="fixed", collapse="greedy-soup")


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"split_after": 0.5, "routing": "fixed"}, "a fixed route trains one: choose another --routing"),
        ({"expand_rank": 64}, "it takes one LoRA"),
        ({"expand_rank": 16, "kind": "lora", "num_modules": 1}, "more than its r of 16"),
        ({"expand_rank": 64, "kind": "lora"}, "--kind lora --num-modules 1"),
        ({"consistency_from": 1.0}, "consistency_from is 1.0; it must be below 1"),
        ({"pull": -0.1}, "pull is -0.1; it must not be negative"),
        ({"module_rate": 0.0}, "module_rate is 0.0; it must be positive"),
        ({"labels_on": "second"}, "known are first, both"),
        ({"pull": 0.1, "routing": "fixed"}, "a fixed route trains one of them"),
        ({"split_after": 0.5, "num_modules": 1}, "split_after is 0.5, but this run trains no mixture"),
        ({"pull": 0.1, "method": "full"}, "pull is 0.1, but this run trains no mixture"),
        ({"module_rate": 2.0, "method": "peft-lora"}, "module_rate is 2.0, but this run trains no mixture"),
        (
            {"expand_rank": 64, "kind": "lora", "num_modules": 1, "init_from": "a"},
            "trains 64 ranks, and a has weights of 16: give one of the two",
        ),
    ],
)
def test_switches_that_contradict_each_other_are_refused(fields: dict[str, object], message: str) -> None:
    with pytest.raises(RecipeError, match=message):
        Recipe(base="b", out="o", **fields)
