import pytest

from adamix_export.checkpoint.importers.outputs import output_layer
from tests.fixtures.tiny_models import tiny_model


@pytest.mark.parametrize(
    ("family", "layer"),
    [("bert", "classifier"), ("roberta", "classifier.out_proj"), ("distilbert", "classifier"), ("gpt2", "score")],
)
def test_the_layer_that_depends_on_the_labels_is_found(family: str, layer: str) -> None:
    assert output_layer(tiny_model(family).config) == layer
