from pathlib import Path

import pytest
import torch
from torch import nn
from transformers import AutoModelForSequenceClassification

from adamix_train.base_model.dropout import dropout_settings
from adamix_train.base_model.load import load_base
from adamix_train.errors import BaseError
from adamix_train.recipe.recipe import Recipe
from tests.fixtures.tiny_models import tiny_inputs, tiny_model


def test_every_layer_of_the_base_drops_out_so_often(recipe: Recipe) -> None:
    base = Path(recipe.base)
    settings = dropout_settings(base, 0.4)
    model = load_base(base, AutoModelForSequenceClassification, **settings).model
    assert {module.p for module in model.modules() if isinstance(module, nn.Dropout)} == {0.4}
    assert dropout_settings(base, None) == {}


@pytest.mark.parametrize("family", ["bert", "distilbert", "roberta", "llama"])
def test_a_base_without_dropout_computes_in_training_as_in_evaluation(family: str, tmp_path: Path) -> None:
    tiny_model(family).save_pretrained(tmp_path)
    inputs = tiny_inputs(family)
    for probability, alike in ((0.0, True), (0.5, False)):
        model = type(tiny_model(family)).from_pretrained(tmp_path, **dropout_settings(tmp_path, probability))
        with torch.no_grad():
            first, second = model.train()(**inputs)[0], model.eval()(**inputs)[0]
        assert torch.allclose(first, second, atol=1e-5) is alike


def test_a_base_that_has_none_is_named(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text('{"model_type": "mamba"}')
    with pytest.raises(BaseError, match="is a mamba without dropout: leave --base-dropout out"):
        dropout_settings(tmp_path, 0.2)
