import pytest
import torch
from transformers import BertConfig, BertForSequenceClassification

from benchmarks import train_step
from benchmarks.support.rounds import Pace


@pytest.fixture(autouse=True)
def _tiny(monkeypatch: pytest.MonkeyPatch) -> None:
    config = BertConfig(
        hidden_size=16, num_hidden_layers=2, num_attention_heads=2, intermediate_size=32, vocab_size=20000
    )
    monkeypatch.setattr(train_step, "_base", lambda: BertForSequenceClassification(config))
    monkeypatch.setattr(train_step, "CASES", {"2x4": (2, 4)})


def test_the_goals_are_our_seconds_by_those_of_peft() -> None:
    findings = train_step.measure_steps(Pace(rounds=1, turn_seconds=0.01, rest_seconds=0.0))
    (row,) = findings.rows
    by_goal = {goal.goal: goal for goal in findings.goals}
    assert by_goal[1.05].value == pytest.approx(row["adamix_ms"] / row["peft_lora_ms"])
    assert by_goal[2.1].value == pytest.approx(row["adamix_consistency_ms"] / row["peft_lora_ms"])
    assert all(goal.better == "lower" for goal in findings.goals)


def test_every_side_changes_its_weights(tmp_path) -> None:
    batch = train_step.random_batch(2, 4)
    for step in (train_step.lora_step(str(tmp_path)), train_step.adamix_step(str(tmp_path), 1.0)):
        losses = [float(step(batch)) for _ in range(3)]
        assert len(set(losses)) > 1
        assert all(torch.isfinite(torch.tensor(losses)))
