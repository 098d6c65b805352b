"""Weigh the modules in their mean, after training: learned weights, or a greedy soup.

Both leave the modules as they are and set the mixtures' `scores`, which a checkpoint keeps and a collapse uses.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import nn
from tqdm.auto import tqdm

from adamix_train.mixture.projection import MixtureLinear
from adamix_train.training.trainer import AdaMixTrainer

LEARNING_RATE = 0.05


@dataclass(frozen=True, kw_only=True)
class Quality:
    """How good a mean of modules is on the validation data."""

    metric: float
    """Higher is better."""
    loss: float
    """Lower is better; decides where metrics tie."""


def mixtures(model: nn.Module) -> list[MixtureLinear]:
    """Return the mixtures of a model that have several modules."""
    return [module for module in model.modules() if isinstance(module, MixtureLinear) and module.num_modules > 1]


def keep_uniform(trainer: AdaMixTrainer, metric: str) -> None:
    """Leave the weights equal, as AdaMix has them."""


def learn_scores(trainer: AdaMixTrainer, metric: str) -> None:
    """Learn a score for every module of every projection in one pass over the training data, all else frozen.

    The weights are the scores' softmax, as in the original; there the scores replaced the random routes from the first
    step, here they are learned for the trained modules.
    """
    model, found = trainer.model, mixtures(trainer.model)
    if not found:
        return
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    scores = [mixture.scores.requires_grad_() for mixture in found]
    optimizer = torch.optim.Adam(scores, lr=LEARNING_RATE)
    try:
        for parameter in trained:
            parameter.requires_grad_(False)
        model.train()
        for mixture in found:
            mixture.eval()
        for batch in tqdm(trainer.get_train_dataloader(), desc="weighing", unit="step"):
            inputs = trainer._prepare_inputs(batch)
            labels = inputs.pop("labels")
            logits, targets = trainer.objective.rows(model(**inputs).logits, labels)
            trainer.objective.loss(logits, targets, label_smoothing=0.0).backward()
            optimizer.step()
            optimizer.zero_grad()
    finally:
        for parameter in trained:
            parameter.requires_grad_(True)
        for mixture in found:
            mixture.scores = mixture.scores.detach()
        model.eval()


def greedy_soup(trainer: AdaMixTrainer, metric: str) -> None:
    """Average only modules that help on the validation data (Wortsman et al., 2022)."""
    found = mixtures(trainer.model)
    if not found:
        return
    count, sign = found[0].num_modules, 1 if trainer.args.greater_is_better else -1

    def quality(chosen: list[int]) -> Quality:
        average(found, equal_shares(chosen, count))
        metrics = trainer.evaluate()
        return Quality(metric=sign * float(metrics[f"eval_{metric}"]), loss=float(metrics["eval_loss"]))

    average(found, equal_shares(choose_soup(count, quality), count))


def choose_soup(count: int, quality: Callable[[list[int]], Quality]) -> list[int]:
    """Return which of `count` modules to average, by the `quality` of a mean of some of them.

    The ingredients are the modules by their number, the same in every mixture: best first, by the metric and then by
    the loss, each is kept if the mean with it has no lower metric than without.
    """
    alone = {index: quality([index]) for index in range(count)}
    first, *others = sorted(alone, key=lambda index: (-alone[index].metric, alone[index].loss))
    soup, best = [first], alone[first].metric
    for index in others:
        if (metric := quality([*soup, index]).metric) >= best:
            soup, best = [*soup, index], metric
    return soup


def equal_shares(chosen: Sequence[int], count: int) -> list[float]:
    """Return the weights of `count` modules in the mean of those `chosen`."""
    return [1 / len(chosen) if index in chosen else 0.0 for index in range(count)]


def average(found: Sequence[MixtureLinear], shares: Sequence[float]) -> None:
    """Weigh the modules in every mean with `shares`, which sum to 1."""
    for mixture in found:
        mixture.scores = torch.tensor(shares).log().to(mixture.scores)


WEIGHINGS: dict[str, Callable[[AdaMixTrainer, str], None]] = {
    "uniform": keep_uniform,
    "learned": learn_scores,
    "greedy-soup": greedy_soup,
}
