from dataclasses import replace

from adamix_train.recipe.recipe import Recipe
from adamix_train.run.train import train


def test_few_shots_are_stratified_and_hold_out_as_many(recipe: Recipe) -> None:
    results = train(replace(recipe, shots=5, epochs=1))
    assert (results["train_examples"], results["validation_examples"]) == (10, 10)
