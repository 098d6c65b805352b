from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from adamix_train.mixture.routing import Route
from adamix_train.recipe.recipe import Recipe
from adamix_train.run.fit import fit
from adamix_train.run.inputs import read_inputs
from adamix_train.run.prepare import prepare
from adamix_train.run.train import train
from adamix_train.training.consistency import two_views
from tests.adamix_train.conftest import NEGATIVE, POSITIVE, make_base
from tests.fixtures.training import generation_recipe, on_gpu, small_recipe, weights


@pytest.mark.parametrize("consistency_weight", [0.0, 1.0])
def test_a_fixed_route_trains_one_module_and_is_measured_on_it(recipe: Recipe, consistency_weight: float) -> None:
    """Without weight decay, what no route chose has nothing that moves it."""
    train(replace(recipe, routing="fixed", consistency_weight=consistency_weight, weight_decay=0.0))
    tensors = weights(recipe.out)
    downs = [name for name in tensors if name.endswith("down.weight")]
    assert downs
    for name in downs:
        weight, scores = tensors[name], tensors[name.replace(".weight", ".scores")]
        others = [sum(torch.equal(module, other) for other in weight) for module in weight]
        assert sorted(others) == [1, 3, 3, 3], "LoRA's modules start alike, and one of them was trained"
        assert scores.softmax(0).tolist() == [float(count == 1) for count in others], "the mean is that module"


def test_a_run_without_updates_of_unselected_modules_differs(recipe: Recipe) -> None:
    for still in (True, False):
        drawn = replace(recipe, routing="batch", epochs=1)
        train(replace(drawn, update_unselected=not still, out=f"{recipe.out}{still}"))
    one, other = (weights(f"{recipe.out}{still}") for still in (True, False))
    assert any(not torch.equal(one[name], other[name]) for name in one)


def test_a_step_of_several_batches_is_the_step_of_one(generative_bases: dict[str, Path], tmp_path: Path) -> None:
    """The loss is a mean over the tokens of the whole step, whose batches have different numbers of them."""
    lines = [f"parcel {word},{'the parcel was ' * (index + 1)}{word}" for index, word in enumerate(POSITIVE + NEGATIVE)]
    (tmp_path / "d.csv").write_text("\n".join(["input,target", *lines]) + "\n")
    given = generation_recipe(
        generative_bases["llama"],
        tmp_path / "d.csv",
        tmp_path / "one",
        max_length=48,
        method="full",
        epochs=4,
        learning_rate=1e-3,
    )
    train(replace(given, batch_size=4))
    train(replace(given, batch_size=1, gradient_accumulation=4, out=str(tmp_path / "four")))
    one, four = (load_file(tmp_path / name / "model.safetensors") for name in ("one", "four"))
    start = load_file(generative_bases["llama"] / "model.safetensors")
    for name in one:
        torch.testing.assert_close(four[name], one[name], atol=2e-4, rtol=0)
    assert max(float((one[name] - start[name]).abs().max()) for name in one) > 3e-3


@on_gpu
def test_a_route_for_each_example_learns(recipe: Recipe) -> None:
    assert train(replace(recipe, r=8, epochs=12, routing="example", precision="bf16"))["test_accuracy"] > 0.9


@pytest.mark.slow
def test_labels_and_consistency_on_the_views_of_a_step(tiny_data: Path, tmp_path: Path) -> None:
    """The loss of a step in numpy, from logits under the step's own route; the second view begins after half of ten."""
    base = make_base(tmp_path / "base", seed=0, dropout=0.0)
    recipe = small_recipe(base, tiny_data, tmp_path / "run", learning_rate=0.1, share="none", routing="batch")
    trainer = fit(prepare(read_inputs(recipe, resume=False)))
    trainer.labels_on, trainer.consistency_from, trainer.consistency_weight = "both", 0.5, 3.0
    model = trainer.model.train()
    batch = dict(trainer.data_collator(trainer.train_dataset[:6]))
    labels = batch["labels"].numpy()
    inputs = {name: value for name, value in batch.items() if name != "labels"}
    for step, views in ((4, 1), (5, 2)):
        trainer.state.global_step = step
        loss = float(trainer.compute_loss(model, dict(batch)).detach())
        route = Route(step=step, views=views)
        logits = model(**(two_views(inputs) if views == 2 else inputs), route=route).logits.detach().double()
        logs = [view.log_softmax(-1).numpy() for view in logits.chunk(views)]
        expected = np.mean([-log[range(6), labels].mean() for log in logs])
        if views == 2:
            p, q = np.exp(logs[0]), np.exp(logs[1])
            expected += 3.0 * 0.5 * ((p - q) * (logs[0] - logs[1])).sum(-1).mean()
            assert np.abs(p - q).max() > 1e-3
        assert loss == pytest.approx(expected, rel=1e-4)
