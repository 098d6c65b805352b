"""The output layer of a classifier: the layer whose width is the number of labels."""

import copy

import torch
from transformers import AutoModelForSequenceClassification, PretrainedConfig


def output_layer(config: PretrainedConfig) -> str:
    """Return the name of the module whose weight changes with the number of labels; no weights are made."""
    one, other = _shapes(config, 2), _shapes(config, 3)
    return next(name.rpartition(".")[0] for name, shape in one.items() if other[name] != shape)


def _shapes(config: PretrainedConfig, labels: int) -> dict[str, torch.Size]:
    changed = copy.deepcopy(config)
    changed.num_labels = labels
    with torch.device("meta"):
        model = AutoModelForSequenceClassification.from_config(changed)
    return {name: tensor.shape for name, tensor in model.state_dict().items()}
