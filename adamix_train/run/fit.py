"""Train the model of a prepared run."""

import logging
from collections.abc import Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import Any

from accelerate import PartialState
from transformers import EarlyStoppingCallback, EvalPrediction, PrinterCallback, TrainerCallback, set_seed

from adamix_train.base_model.dropout import dropout_settings
from adamix_train.base_model.load import Base, load_base
from adamix_train.base_model.padding import pad_as
from adamix_train.metrics.table import METRICS
from adamix_train.recipe.average import Average
from adamix_train.recipe.recipe import Recipe
from adamix_train.run.interruption import Interruption
from adamix_train.run.log_file import LogFile
from adamix_train.run.prepare import PreparedRun
from adamix_train.run.processes import is_first_process
from adamix_train.run.progress import ProgressBar
from adamix_train.run.run_folder import begin
from adamix_train.training.compilation import compiled
from adamix_train.training.device import training_device
from adamix_train.training.expanded_rank import cut_rank
from adamix_train.training.initial_weights import load_initial
from adamix_train.training.methods import TrainableModel, build_trainable_model
from adamix_train.training.module_steps import Pull, Split
from adamix_train.training.module_weights import MODULE_WEIGHTS
from adamix_train.training.step_average import StepAverage
from adamix_train.training.trainer import AdaMixTrainer

logger = logging.getLogger(__name__)


def fit(run: PreparedRun, callbacks: Sequence[TrainerCallback] = ()) -> AdaMixTrainer:
    """Train, choose the weights of the modules, and save the best checkpoint to the run's folder.

    Raises:
        Interrupted: a signal came; the newest step checkpoint can be resumed.
        TrainingError: the loss or a weight is not finite, or the model cannot be compiled.
    """
    recipe = run.inputs.recipe
    set_seed(recipe.seed)
    settings = run.objective.settings(run.inputs.splits.labels)
    settings |= dropout_settings(run.inputs.base, recipe.base_dropout)
    base = load_base(run.inputs.base, run.objective.model, **settings)
    pad_as(run.tokenizer, base.model.config)
    model = build_trainable_model(base, recipe, run.objective)
    if recipe.init_from:
        load_initial(model, Path(recipe.init_from))
    PartialState().wait_for_everyone()  # every process has found the folder new before the first writes to it
    if is_first_process():
        begin(recipe, run.inputs.out)
    logger.info("training on %s in %s%s", training_device(), recipe.precision, ", compiled" if recipe.compile else "")
    with Interruption() as interruption, compiled(model) if recipe.compile else nullcontext():
        trainer = _trainer(run, base, model, [interruption, *_of_recipe(recipe, run.inputs.step), *callbacks])
        trainer.train(resume_from_checkpoint=str(run.inputs.step) if run.inputs.step else None)
    MODULE_WEIGHTS[recipe.collapse](trainer, run.metric)
    if recipe.expand_rank:
        cut_rank(trainer.accelerator.unwrap_model(trainer.model), recipe)
    trainer.evaluate()
    trainer.save_model(recipe.out)
    return trainer


def _trainer(
    run: PreparedRun, base: Base, model: TrainableModel, callbacks: Sequence[TrainerCallback]
) -> AdaMixTrainer:
    recipe, objective = run.inputs.recipe, run.objective
    assert recipe.routing is not None
    assert recipe.consistency_from is not None
    assert recipe.labels_on is not None
    trainer = AdaMixTrainer(
        model=model,
        args=run.arguments,
        train_dataset=run.train_rows,
        eval_dataset=run.validation_rows,
        data_collator=objective.collate(run.tokenizer, base.model),
        processing_class=run.tokenizer,
        compute_metrics=None if objective.is_generative else lambda prediction: _metrics(run, prediction),
        callbacks=list(callbacks),
        consistency_weight=run.consistency_weight,
        objective=objective,
        consistency_from=recipe.consistency_from,
        labels_on=recipe.labels_on,
        split_after=recipe.split_after,
        module_rate=recipe.module_rate,
        label_smoothing=recipe.label_smoothing,
        routing=recipe.routing,
        update_unselected=recipe.update_unselected,
        card=run.card,
    )
    trainer.remove_callback(PrinterCallback)
    trainer.add_callback(ProgressBar(run.metric))
    trainer.add_callback(LogFile())
    return trainer


def _of_recipe(recipe: Recipe, resumed: Path | None) -> list[TrainerCallback]:
    """Return the callbacks that the recipe asks for, in the order in which they act after a step."""
    return [
        *([EarlyStoppingCallback(recipe.early_stopping)] if recipe.early_stopping else []),
        *([Split(recipe.split_after)] if recipe.split_after else []),
        *([Pull(recipe.pull)] if recipe.pull else []),
        *([StepAverage(Average.parse(recipe.average), resumed)] if recipe.average else []),
    ]


def _metrics(run: PreparedRun, prediction: EvalPrediction) -> dict[str, Any]:
    return {name: METRICS[name](prediction.predictions, prediction.label_ids) for name in run.inputs.task.metrics}
