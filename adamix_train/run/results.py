"""Measure a trained model and store the results."""

import logging
from typing import Any

from transformers import EvalPrediction

from adamix_train.artifacts.atomic_write import write_json
from adamix_train.data.held_out import save_held_out
from adamix_train.evaluation.generate import generate
from adamix_train.evaluation.save_jsonl import save_jsonl
from adamix_train.evaluation.score import score
from adamix_train.metrics.classes import ClassReport, class_report
from adamix_train.recipe.defaults import CHOICES
from adamix_train.run.advice import Course, advise
from adamix_train.run.confusion_picture import draw_confusion
from adamix_train.run.learning_curve import draw_curve
from adamix_train.run.prepare import PreparedRun
from adamix_train.run.readme import write_readme
from adamix_train.training.best_checkpoint import LOSS
from adamix_train.training.device import training_device
from adamix_train.training.trainer import AdaMixTrainer, newest_metrics

RESULTS = "results.json"
GENERATED = "generated.jsonl"
logger = logging.getLogger(__name__)


def measure(run: PreparedRun, trainer: AdaMixTrainer) -> ClassReport | None:
    """Measure the saved model on the test data, add the metrics to its card, and return a classifier's by label.

    A generative model is measured on the validation data if there is no test data, and labels are.
    """
    report = None
    if run.objective.is_generative:
        _measure_texts(run, trainer)
    elif run.inputs.splits.labels:
        report = _measure_labels(run, trainer)
    elif run.test_rows:
        trainer.evaluate(run.test_rows, metric_key_prefix="test")
    if trainer.is_world_process_zero() and not run.inputs.recipe.validation_file:
        save_held_out(run.inputs.splits.validation, run.inputs.task, run.inputs.out)
    trainer.write_card(run.inputs.out)
    return report


def _measure_labels(run: PreparedRun, trainer: AdaMixTrainer) -> ClassReport:
    """Evaluate on the test data, if there is any, and keep the predictions; predict the validation data otherwise."""
    labels = run.inputs.splits.labels
    if not run.test_rows:
        found = trainer.predict(run.validation_rows)
        return class_report(found.predictions, found.label_ids, labels, "validation")
    predictions: list[EvalPrediction] = []
    compute = trainer.compute_metrics

    def keep(prediction: EvalPrediction) -> dict[str, Any]:
        predictions.append(prediction)
        return compute(prediction)

    trainer.compute_metrics = keep
    trainer.evaluate(run.test_rows, metric_key_prefix="test")
    trainer.compute_metrics = compute
    return class_report(predictions[0].predictions, predictions[0].label_ids, labels, "test")


def _measure_texts(run: PreparedRun, trainer: AdaMixTrainer) -> None:
    if not trainer.is_world_process_zero():
        return
    recipe = run.inputs.recipe
    generated = generate(
        trainer.accelerator.unwrap_model(trainer.model).eval(),
        run.prompts,
        run.tokenizer,
        batch_size=recipe.eval_batch_size,
        num_beams=recipe.num_beams,
        length_penalty=recipe.length_penalty,
        no_repeat_ngram_size=recipe.no_repeat_ngram_size,
        max_new_tokens=recipe.max_new_tokens,
    )
    save_jsonl(generated, run.inputs.out / GENERATED)
    prefix = "test" if run.inputs.splits.test else "eval"
    found = {f"{prefix}_{name}": value for name, value in score(generated, run.inputs.task.metrics).items()}
    trainer.state.log_history.append({"step": trainer.state.global_step, **found})


def store_results(run: PreparedRun, trainer: AdaMixTrainer, report: ClassReport | None = None) -> dict[str, Any]:
    """Return metrics, sizes and history of a run; write them to results.json, and draw curve.png and confusion.png."""
    out, splits, truncated = run.inputs.out, run.inputs.splits, run.encoding.truncated
    parameters = list(trainer.accelerator.unwrap_model(trainer.model).parameters())
    results = {
        "checkpoint": str(out),
        "device": training_device().as_dict(),
        **newest_metrics(trainer.state.log_history),
        "best_step": trainer.state.best_global_step,
        "steps": trainer.state.global_step,
        "train_examples": len(splits.train),
        "validation_examples": len(splits.validation),
        "test_examples": len(splits.test),
        "truncated_examples": len(truncated),
        "labels": splits.labels,
        "settings": {name: getattr(run.inputs.recipe, name) for name in CHOICES},
        **({"classes": report.as_dict()} if report else {}),
        "trained_parameters": sum(weight.numel() for weight in parameters if weight.requires_grad),
        "all_parameters": sum(weight.numel() for weight in parameters),
        "advice": advise(_course(run, trainer)),
        "history": trainer.state.log_history,
    }
    if truncated:
        logger.warning(
            "%d examples were longer than max_length %d (up to %d tokens) and were truncated",
            len(truncated),
            run.encoding.max_length,
            max(truncated),
        )
    if trainer.is_world_process_zero():
        draw_curve(trainer.state.log_history, run.metric, out / "curve.png")
        if report:
            draw_confusion(report, out / "confusion.png")
        write_json(out / RESULTS, results)
        write_readme(run.card, results, out)
    return results


def _course(run: PreparedRun, trainer: AdaMixTrainer) -> Course:
    history, splits = trainer.state.log_history, run.inputs.splits
    return Course(
        recipe=run.inputs.recipe,
        kind=run.inputs.task.kind,
        train_targets=[example.target for example in splits.train],
        validation_targets=[example.target for example in splits.validation],
        train_losses=[entry["loss"] for entry in history if "loss" in entry],
        validation_losses=[entry[LOSS] for entry in history if LOSS in entry],
        metrics=newest_metrics(history),
        steps=trainer.state.global_step,
    )
