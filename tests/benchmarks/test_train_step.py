import pytest
import torch
from transformers import BertConfig, BertForSequenceClassification

from adamix_train.mixture.projection import MixtureLinear
from benchmarks import train_step
from benchmarks.support.rounds import Pace


@pytest.fixture(autouse=True)
def _tiny(monkeypatch: pytest.MonkeyPatch) -> None:
    config = BertConfig(
        hidden_size=16, num_hidden_layers=2, num_attention_heads=2, intermediate_size=32, vocab_size=20000
    )
    monkeypatch.setattr(train_step, "_base", lambda: BertForSequenceClassification(config))
    monkeypatch.setattr(train_step, "CASES", {"4x4": (4, 4)})


def test_the_goals_are_our_seconds_by_those_of_peft() -> None:
    findings = train_step.measure_steps(Pace(rounds=1, turn_seconds=0.01, rest_seconds=0.0))
    (row,) = findings.rows
    sides = ("adamix", "adamix_consistency", "default", "default_consistency")
    for side, goal in zip(sides, findings.goals, strict=True):
        assert f"of {side} by" in goal.what
        assert goal.value == pytest.approx(row[f"{side}_ms"] / row["peft_lora_ms"])
        assert (goal.goal, goal.better) == (2.1 if side.endswith("consistency") else 1.05, "lower")


def test_every_side_changes_its_weights(tmp_path) -> None:
    batch, folder = train_step.random_batch(4, 4), str(tmp_path)
    for step in (
        train_step.lora_step(folder),
        train_step.adamix_step(folder, 1.0),
        train_step.default_step(folder, 0.0),
        train_step.default_step(folder, 1.0),
    ):
        losses = [float(step(batch)) for _ in range(3)]
        assert len(set(losses)) > 1
        assert all(torch.isfinite(torch.tensor(losses)))


@pytest.mark.parametrize(("weight", "views"), [(0.0, 1), (1.0, 2)])
def test_the_default_step_divides_its_batch_among_the_modules(
    weight: float, views: int, tmp_path, monkeypatch: pytest.MonkeyPatch
) -> None:
    routes = []
    shares = MixtureLinear._shares
    monkeypatch.setattr(MixtureLinear, "_shares", lambda self, *args: routes.append(self.route) or shares(self, *args))
    train_step.default_step(str(tmp_path), weight)(train_step.random_batch(4, 4))
    assert routes
    assert all(sorted(route) == sorted([0, 1, 2, 3] * views) for route in routes)
