"""Which checkpoint of a run is kept as the best."""

from pathlib import Path

import pytest
from transformers import TrainerState

from adamix_train.recipe.defaults import Situation, complete
from adamix_train.recipe.recipe import Recipe
from adamix_train.run.train import train
from adamix_train.training.arguments import training_arguments
from adamix_train.training.objectives import OBJECTIVES
from adamix_train.training.trainer import AdaMixTrainer
from tests.fixtures.tiny_models import tiny_model

CLASSIFICATION = OBJECTIVES["classification"]
Table = list[dict[str, float]]
TABLES: list[tuple[str, Table, int]] = [
    ("the highest metric", [{"accuracy": 0.5, "loss": 1}, {"accuracy": 1, "loss": 3}, {"accuracy": 0.5, "loss": 2}], 2),
    ("a tie, the loss falls", [{"accuracy": 1, "loss": 3}, {"accuracy": 1, "loss": 1}, {"accuracy": 1, "loss": 2}], 2),
    ("a tie, the loss rises", [{"accuracy": 1, "loss": 1}, {"accuracy": 1, "loss": 2}, {"accuracy": 1, "loss": 3}], 1),
    ("a tie in both", [{"accuracy": 1, "loss": 1}, {"accuracy": 1, "loss": 1}, {"accuracy": 0.5, "loss": 0}], 2),
    ("a tie of a worse one", [{"accuracy": 1, "loss": 2}, {"accuracy": 0, "loss": 1}, {"accuracy": 0, "loss": 0}], 1),
    (
        "a better one between two that tie with the first",
        [
            {"accuracy": 0, "loss": 1},
            {"accuracy": 1, "loss": 3},
            {"accuracy": 0, "loss": 0},
            {"accuracy": 1, "loss": 2},
        ],
        4,
    ),
    ("none above nought", [{"accuracy": 0, "loss": 2}, {"accuracy": 0, "loss": 1}], 2),
    ("the loss itself", [{"loss": 2}, {"loss": 1}, {"loss": 1}, {"loss": 3}], 3),
]


def make_trainer(metric: str, out: Path) -> AdaMixTrainer:
    recipe = complete(Recipe(base="here", out=str(out), report_to="none"), Situation(rows=10, width=8)).recipe
    arguments = training_arguments(recipe, CLASSIFICATION, metric)
    return AdaMixTrainer(model=tiny_model("bert"), args=arguments, eval_dataset=[{"input_ids": [1], "labels": 0}])


def evaluate(trainer: AdaMixTrainer, table: Table, *, start: int = 0) -> None:
    """Log the evaluations of a table, one a step, as a run does."""
    for step, entry in enumerate(table[start:], start + 1):
        metrics = {f"eval_{name}": float(value) for name, value in entry.items()}
        trainer.state.global_step = step
        trainer.log({"loss": 0.0})
        trainer.log(dict(metrics))
        trainer._determine_best_metric(metrics, None)


@pytest.mark.parametrize(("table", "best"), [case[1:] for case in TABLES], ids=[case[0] for case in TABLES])
def test_ties_are_broken_by_the_loss_and_then_by_the_later(table: Table, best: int, tmp_path: Path) -> None:
    """So they are in a run that was interrupted after any of the evaluations."""
    metric = next(iter(table[0]))
    trainer = make_trainer(metric, tmp_path / "out")
    for interrupted in range(len(table) + 1):
        trainer.state = TrainerState()
        evaluate(trainer, table[:interrupted])
        trainer.state.save_to_json(str(tmp_path / "state.json"))
        trainer.state = TrainerState.load_from_json(str(tmp_path / "state.json"))
        evaluate(trainer, table, start=interrupted)
        assert trainer.state.best_global_step == best, f"interrupted after {interrupted} evaluations"
        assert trainer.state.best_metric == table[best - 1][metric]


def test_a_run_whose_checkpoints_are_all_alike_keeps_the_last(tiny_base: Path, tiny_data: Path, tmp_path: Path) -> None:
    recipe = Recipe(
        base=str(tiny_base),
        train_file=str(tiny_data),
        out=str(tmp_path / "run"),
        validation_share=0.25,
        epochs=3,
        batch_size=12,
        learning_rate=1e-12,
        max_length=16,
        report_to="none",
    )
    results = train(recipe)
    assert results["best_step"] == results["steps"] == 9
    assert [path.name for path in Path(recipe.out).glob("checkpoint-*")] == ["checkpoint-9"]
