from dataclasses import fields

from adamix_train.recipe.recipe import Recipe


def test_every_field_is_documented() -> None:
    assert all(item.metadata["help"] for item in fields(Recipe))
