"""The Trainer of mixtures: routes, consistency loss, and checkpoints without pickles."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from adamix_train.artifacts.checkpoint import Card, write_card
from adamix_train.mixture.routing import Route, keep_route
from adamix_train.peft_method import AdaMixModel
from adamix_train.training.best_checkpoint import LOSS, wins_tie
from adamix_train.training.bucket_sampler import BucketSampler
from adamix_train.training.consistency import consistency_loss, two_views
from adamix_train.training.module_steps import multiply_rates, steps_alone
from adamix_train.training.objectives import OBJECTIVES, Objective
from adamix_train.training.step_checkpoints import CheckpointingTrainer
from adamix_train.training.unselected import freeze_unselected

TIMINGS = ("_runtime", "_per_second")


class AdaMixTrainer(CheckpointingTrainer):
    """`transformers.Trainer` for a PEFT model with an `AdaMixConfig`; models without mixtures train as well.

    The loss is the mean over the rows (generation: target tokens) of an optimizer step, over all its batches and
    processes.

    Args:
        consistency_weight: weight of the consistency loss. Above 0, a step runs two views of its batch in one forward
            pass, under two routes; the task's loss is that of the first view. Views of a model without mixtures differ
            by dropout alone.
        consistency_from: share of the steps after which the second view begins.
        labels_on: "both" takes the mean of the task's loss over two views.
        split_after: share of the steps in which the first module of each mixture takes all rows; `module_steps.Split`
            then copies it.
        module_rate: learning rate of the projections that modules do not share, as a multiple.
        objective: loss of the task, from `training.objectives`.
        label_smoothing: smoothing of the task's cross-entropy.
        routing: "batch" draws a route for each batch, "example" one for each row; "shares" gives every module an equal
            share of the batch; "fixed" always uses the route of step 0, in both views, and evaluates the modules on it
            alone.
        update_unselected: let AdamW move modules that a step did not use, as in the original code.
        card: description of the run; with it, every saved folder is a checkpoint that adamix-export reads.
    """

    loss_is_scaled_for_ga = True

    def __init__(
        self,
        *args: Any,
        consistency_weight: float = 1.0,
        objective: Objective = OBJECTIVES["classification"],
        consistency_from: float = 0.0,
        labels_on: str = "first",
        split_after: float = 0.0,
        module_rate: float = 1.0,
        label_smoothing: float = 0.0,
        routing: str = "batch",
        update_unselected: bool = True,
        card: Card | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(*args, **kwargs)
        self.consistency_weight, self.objective, self.card = consistency_weight, objective, card
        self.consistency_from, self.labels_on = consistency_from, labels_on
        self.split_after, self.module_rate = split_after, module_rate
        self.label_smoothing, self.routing, self.update_unselected = label_smoothing, routing, update_unselected
        self.routed = isinstance(getattr(self.model, "base_model", None), AdaMixModel)
        if self.routed and routing == "fixed":
            for name, config in self.model.peft_config.items():
                keep_route(self.model.base_model.mixtures(name), Route(step=0), seed=config.seed)
        self.micro_step = (-1, 0)
        """Optimizer step of the last forward pass, and the number of passes before it in that step."""

    def compute_loss(
        self,
        model: nn.Module,
        inputs: dict[str, Any],
        return_outputs: bool = False,
        num_items_in_batch: Tensor | int | None = None,
    ) -> Any:
        """Return the task's loss plus the weighted consistency loss between the views."""
        if not model.training:
            return super().compute_loss(model, inputs, return_outputs)
        inputs = dict(inputs)
        labels = inputs.pop("labels")
        views = self.views()
        route = {"route": self.next_route(views, labels.shape[0])} if self.routed else {}
        outputs = model(**(two_views(inputs) if views == 2 else inputs), **route)
        outputs.logits, *others = outputs.logits.chunk(views)
        logits, targets = self.objective.rows(outputs.logits, labels)
        loss = self.objective.loss(logits, targets, label_smoothing=self.label_smoothing)
        for other in others:
            seen = self.objective.rows(other, labels)[0]
            if self.labels_on == "both":
                loss = (loss + self.objective.loss(seen, targets, label_smoothing=self.label_smoothing)) / views
            if self.consistency_weight:
                loss = loss + self.consistency_weight * consistency_loss(logits, seen)
        if num_items_in_batch is not None:  # gradients are summed over batches and averaged over processes
            loss = loss * (len(targets) * self.args.world_size / num_items_in_batch)
        self._check(loss, "the loss", self.state.global_step + 1)
        return (loss, outputs) if return_outputs else loss

    def get_batch_samples(self, epoch_iterator: Any, num_batches: int, device: torch.device) -> tuple[list[Any], Any]:
        """Return the batches of an optimizer step and the number of their rows with a loss, over all processes."""
        batches, _ = super().get_batch_samples(epoch_iterator, num_batches, device)
        labels = [batch["labels"] for batch in batches]
        rows = torch.tensor(sum(len(self.objective.rows(one, one)[1]) for one in labels), device=device)
        return batches, self.accelerator.gather(rows).sum()

    def views(self) -> int:
        """Return how often the next batch goes through the model: twice for a consistency loss, or labels on both."""
        begun = self.state.global_step >= round(self.consistency_from * self.state.max_steps)
        return 2 if begun and (self.consistency_weight or self.labels_on == "both") else 1

    def next_route(self, views: int, batch: int) -> Route:
        """Return the route of the next forward pass; rows are numbered over all data-parallel ranks."""
        step = self.next_step()
        if self.routing == "fixed":
            return Route(step=0)
        if self.state.global_step < steps_alone(self.split_after, self.state.max_steps):
            return Route(step=step, views=views, only=0)
        if self.routing == "shares":
            return Route(step=step, views=views, shares=batch)
        first = self.args.process_index * batch
        rows = range(first, first + batch) if self.routing == "example" else None
        return Route(step=step, views=views, rows=rows)

    def evaluate(self, *args: Any, **kwargs: Any) -> dict[str, float]:
        """Evaluate; raise TrainingError if the loss is not finite, before the model is saved."""
        metrics: dict[str, float] = super().evaluate(*args, **kwargs)
        for name in (LOSS, "test_loss"):
            self._check(torch.tensor(metrics.get(name, 0.0)), f"the {name}", self.state.global_step)
        return metrics

    def _determine_best_metric(self, metrics: dict[str, float], trial: Any) -> bool:
        """Make the newest checkpoint the best if its metric is higher, or if it wins a tie."""
        if super()._determine_best_metric(metrics, trial):
            return True
        if not wins_tie(self.state, self.args.metric_for_best_model, metrics):
            return False
        self.state.best_global_step = self.state.global_step
        return True

    def prediction_step(self, *args: Any, **kwargs: Any) -> tuple[Any, Any, Any]:
        """Return loss, logits and labels, without the other tensors that some models return with the logits."""
        loss, logits, labels = super().prediction_step(*args, **kwargs)
        return loss, logits[0] if isinstance(logits, tuple) else logits, labels

    def _get_train_sampler(self, train_dataset: Any = None) -> Any:
        """Return a sampler whose order depends on seed and epoch alone, so that a run can resume within an epoch."""
        if self.args.train_sampling_strategy != "group_by_length":
            return super()._get_train_sampler(train_dataset)
        lengths = [len(row["input_ids"]) for row in self.train_dataset]
        return BucketSampler(
            lengths, self.args.train_batch_size * self.args.gradient_accumulation_steps, self.args.seed
        )

    def create_optimizer(self, *args: Any, **kwargs: Any) -> Any:
        """Create the optimizer; it leaves unselected modules alone if `update_unselected` is false."""
        optimizer = super().create_optimizer(*args, **kwargs)
        if self.routed and self.module_rate != 1:
            multiply_rates(optimizer, self.model, self.module_rate)
        if self.routed and not self.update_unselected:
            freeze_unselected(optimizer, self.model)
        return optimizer

    def next_step(self) -> int:
        """Return the number of the next training forward pass, which a resumed run counts as the original would."""
        step, passes = self.micro_step
        passes = passes + 1 if step == self.state.global_step else 0
        self.micro_step = (self.state.global_step, passes)
        return self.state.global_step * self.args.gradient_accumulation_steps + passes

    def _save(self, output_dir: str | None = None, state_dict: dict[str, Any] | None = None) -> None:
        folder = Path(output_dir or self.args.output_dir)
        if not self.args.should_save:
            return
        folder.mkdir(parents=True, exist_ok=True)
        self.accelerator.unwrap_model(self.model).save_pretrained(folder, state_dict=state_dict)
        if self.processing_class is not None:
            self.processing_class.save_pretrained(folder)
        self.write_card(folder)

    def write_card(self, folder: Path) -> None:
        """Write the card, with the newest metrics, into a saved folder; only the first process does."""
        if self.card is not None and self.args.should_save:
            write_card(folder, replace(self.card, metrics=newest_metrics(self.state.log_history)))


def newest_metrics(history: Sequence[dict[str, Any]]) -> dict[str, float]:
    """Return the newest metrics that the Trainer logged: validation data by plain name, test data as `test_…`."""
    newest: dict[str, float] = {}
    for entry in history:
        newest |= {
            name.removeprefix("eval_"): value
            for name, value in entry.items()
            if name.startswith(("eval_", "test_")) and not name.endswith(TIMINGS)
        }
    return newest
