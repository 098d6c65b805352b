import pytest

from adamix_train.errors import RecipeError
from adamix_train.recipe.average import Average
from adamix_train.recipe.recipe import Recipe


@pytest.mark.parametrize(
    ("text", "average"),
    [("last:0.25", Average("last", 0.25)), ("last:1", Average("last", 1.0)), ("ema:0.99", Average("ema", 0.99))],
)
def test_a_rule_is_read(text: str, average: Average) -> None:
    assert Average.parse(text) == average


@pytest.mark.parametrize("text", ["last", "last:0", "last:1.5", "ema:1", "ema:nan", "mean:0.5", "ema:0.9:0.9", ""])
def test_another_rule_is_refused_with_the_recipe(text: str) -> None:
    with pytest.raises(RecipeError, match=r"such as last:0\.25, or ema:"):
        Recipe(base="b", out="o", average=text)
