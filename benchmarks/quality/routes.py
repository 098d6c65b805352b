"""A trained mixture, run in other ways than by its mean: through fixed, random or all of its modules."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import peft
import torch
from numpy.typing import NDArray

from adamix_train.artifacts.checkpoint import read_card
from adamix_train.base_model.load import load_classifier, load_tokenizer
from adamix_train.data.encoding import Encoding
from adamix_train.data.splits import read_all, task_of
from adamix_train.metrics.table import METRICS
from adamix_train.mixture.projection import MixtureLinear
from adamix_train.mixture.routing import Route, set_route
from adamix_train.recipe.recipe import Recipe
from adamix_train.training.objectives import OBJECTIVES

RANDOM_DRAWS = 3
ROWS = 64


def compare_routes(recipe: Recipe) -> dict[str, float]:
    """Return the test metric of a classifier's mixture by way: its mean, its first module, random ones, all of them.

    Empty for runs without a mixture of several modules.
    """
    task = task_of(recipe)
    if not recipe.is_mixture or task.kind != "classification" or recipe.shots:
        return {}
    folder, card = Path(recipe.out), read_card(Path(recipe.out))
    model = peft.PeftModel.from_pretrained(load_classifier(Path(recipe.base), card.labels), folder).eval()
    tokenizer = load_tokenizer(Path(recipe.base))
    encoding = Encoding(tokenizer=tokenizer, max_length=recipe.max_length, labels=card.labels)
    objective = OBJECTIVES[task.kind]
    rows = objective.encode(read_all(recipe.test_file or "", task), encoding)
    rows.sort(key=lambda row: len(row["input_ids"]))
    labels = np.array([row["labels"] for row in rows])
    collate = objective.collate(tokenizer, model)
    device = torch.accelerator.current_accelerator() if torch.accelerator.is_available() else torch.device("cpu")
    model.to(device)

    def logits() -> NDArray[np.floating]:
        with torch.inference_mode():
            batches = [collate(rows[start : start + ROWS]) for start in range(0, len(rows), ROWS)]
            inputs = [{name: batch[name].to(device) for name in batch if name != "labels"} for batch in batches]
            return np.concatenate([model(**one).logits.cpu().numpy() for one in inputs])

    def metric(values: NDArray[np.floating]) -> float:
        return METRICS[task.metrics[0]](values, labels)

    mixtures = model.base_model.mixtures("default")
    found = {"mean": metric(logits())}
    with routed(mixtures):
        alone = []
        for index in range(recipe.num_modules):
            for mixture in mixtures.values():
                mixture.route = (index % mixture.num_modules,)
            alone.append(logits())
        drawn = []
        for step in range(RANDOM_DRAWS):
            set_route(mixtures, Route(step=step), seed=recipe.seed + 1)
            drawn.append(metric(logits()))
    found["first module"] = metric(alone[0])
    found["random modules"] = float(np.mean(drawn))
    found["ensemble"] = metric(np.mean([_softmax(values) for values in alone], axis=0))
    return found


@contextmanager
def routed(mixtures: dict[str, MixtureLinear]) -> Iterator[None]:
    """Let mixtures follow their routes, as in training, while the rest of the model evaluates."""
    for mixture in mixtures.values():
        mixture.train()
    try:
        yield
    finally:
        for mixture in mixtures.values():
            mixture.eval()


def _softmax(logits: NDArray[np.floating]) -> NDArray[np.floating]:
    exponents = np.exp(logits - logits.max(-1, keepdims=True))
    return exponents / exponents.sum(-1, keepdims=True)
