from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from adamix_export.checkpoint.checkpoint import Checkpoint, open_checkpoint
from adamix_train.metrics.table import METRICS
from adamix_train.mixture.projection import MixtureLinear
from adamix_train.recipe.recipe import Recipe
from benchmarks.quality import routes
from benchmarks.quality.routes import compare_routes, routed
from tests.fixtures.random_checkpoints import make_encoder, mixture

ROWS = ["the parcel was good,positive", "it is bad,negative", "my shop was lovely,positive", "a shop,negative"]


def test_a_trained_mixture_can_be_run_through_one_of_its_modules() -> None:
    mixture = MixtureLinear(3, 4, 5, bias=False).eval()
    torch.nn.init.normal_(mixture.weight)
    x = torch.randn(2, 4)
    mean = mixture(x)
    with routed({"site": mixture}):
        mixture.route = (1,)
        np.testing.assert_allclose(mixture(x).detach(), (x @ mixture.weight[1].T).detach(), rtol=1e-5)
    torch.testing.assert_close(mixture(x), mean)


def cubes(values: NDArray[np.floating], labels: NDArray[np.integer]) -> float:
    """A metric that differs wherever the labels' logits do, whatever the order of the rows."""
    return float((values[range(len(labels)), labels] ** 3).sum())


@pytest.mark.parametrize(
    "fields", [{"method": "full"}, {"num_modules": 1}, {"shots": 16}, {"task": "generation"}], ids=str
)
def test_other_runs_than_those_of_a_classifiers_mixture_have_no_other_ways(fields: Mapping[str, object]) -> None:
    assert compare_routes(Recipe(**{"base": "nowhere", "out": "nowhere", **fields})) == {}


def logits_of(checkpoint: Checkpoint, weights: tuple[float, ...]) -> NDArray[np.floating]:
    """Return the logits of all rows through a mean with these weights."""
    texts, _ = zip(*(row.split(",") for row in ROWS), strict=True)
    inputs = checkpoint.tokenizer(list(texts), padding=True, return_tensors="pt")
    with torch.inference_mode():
        return replace(checkpoint, weights=weights).reference(**inputs).logits.numpy()


@pytest.mark.slow
def test_ways_are_those_of_means_that_give_a_module_all_the_weight(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "test.csv"
    file.write_text("\n".join(["text,label", *ROWS]) + "\n")
    base = make_encoder(tmp_path / "base", "bert")
    run = mixture(tmp_path / "mood", base, num_modules=2, test_file=str(file))
    checkpoint = open_checkpoint(str(run))
    labels = np.array([checkpoint.card.labels.index(row.split(",")[1]) for row in ROWS])
    monkeypatch.setitem(METRICS, "accuracy", cubes)
    monkeypatch.setattr(routes, "ROWS", 3)
    found = compare_routes(Recipe(**checkpoint.card.recipe))
    first, second = (logits_of(checkpoint, weights) for weights in ((1.0, 0.0), (0.0, 1.0)))
    ensemble = sum(torch.tensor(logits).softmax(-1) for logits in (first, second)).numpy() / 2
    assert found["mean"] == pytest.approx(cubes(logits_of(checkpoint, ()), labels), rel=1e-4)
    assert found["first module"] == pytest.approx(cubes(first, labels), rel=1e-4)
    assert found["ensemble"] == pytest.approx(cubes(ensemble, labels), rel=1e-4)
    assert len({round(value, 4) for value in found.values()}) == 4
