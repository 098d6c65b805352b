"""Choose the weights of the modules in their mean after training: uniform, learned, or a greedy soup.

The modules themselves do not change; the weights are stored in the mixtures' `scores`, which checkpoints keep and
collapsing uses.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch

from adamix_cli.progress_bar import progress_bar
from adamix_train.mixture.projection import MixtureLinear, mixtures
from adamix_train.training.trainer import AdaMixTrainer

LEARNING_RATE = 0.05
"""Learning rate of the scores, with Adam."""


@dataclass(frozen=True, kw_only=True)
class Quality:
    """Quality of a mean of modules on the validation data."""

    metric: float
    """Higher is better."""
    loss: float
    """Lower is better; decides between equal metrics."""


def keep_uniform(trainer: AdaMixTrainer, metric: str) -> None:
    """Leave the weights equal (AdaMix, section 3.3)."""


def learn_scores(trainer: AdaMixTrainer, metric: str) -> None:
    """Learn a score for each module of each mixture in one pass over the training data, everything else frozen.

    The weights are the softmax of the scores, as in the original code. There, scores replaced random routes from the
    first step; here they are learned for modules that are already trained.
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
        for batch in progress_bar(trainer.get_train_dataloader(), desc="learning module weights", unit="step"):
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
    """Average only the modules that improve `metric` on the validation data (Wortsman et al., 2022)."""
    found = mixtures(trainer.model)
    if not found:
        return
    count, sign = found[0].num_modules, 1 if trainer.args.greater_is_better else -1

    def quality(chosen: list[int]) -> Quality:
        set_weights(found, equal_weights(chosen, count))
        metrics = trainer.evaluate()
        return Quality(metric=sign * float(metrics[f"eval_{metric}"]), loss=float(metrics["eval_loss"]))

    set_weights(found, equal_weights(choose_soup(count, quality), count))


def choose_soup(count: int, quality: Callable[[list[int]], Quality]) -> list[int]:
    """Return the indices of the modules to average, of `count` in each mixture.

    `quality` measures the mean of some modules. Modules are tried in the order of their own metric, then of their loss,
    and each is kept unless the mean's metric gets worse with it. An index means the same choice in every mixture.
    """
    alone = {index: quality([index]) for index in range(count)}
    first, *others = sorted(alone, key=lambda index: (-alone[index].metric, alone[index].loss))
    soup, best = [first], alone[first].metric
    for index in others:
        if (metric := quality([*soup, index]).metric) >= best:
            soup, best = [*soup, index], metric
    return soup


def equal_weights(chosen: Sequence[int], count: int) -> list[float]:
    """Return the weights of `count` modules: equal for those `chosen`, 0 for the others, 1 in total."""
    return [1 / len(chosen) if index in chosen else 0.0 for index in range(count)]


def set_weights(found: Sequence[MixtureLinear], weights: Sequence[float]) -> None:
    """Set the weights of the modules in the mean of every mixture; they sum to 1."""
    for mixture in found:
        mixture.scores = torch.tensor(weights).log().to(mixture.scores)


MODULE_WEIGHTS: dict[str, Callable[[AdaMixTrainer, str], None]] = {
    "uniform": keep_uniform,
    "learned": learn_scores,
    "greedy-soup": greedy_soup,
}
"""Recipe's `collapse` → function of a trained Trainer and the name of its metric."""
