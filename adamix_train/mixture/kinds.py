"""The adapter kinds by name; a new kind is a file beside this one and a line in the table.

A kind is a module around one linear layer of the base. Its projections are called `down` and `up` and are made by a
factory, so that the kind does not know whether they are plain layers, mixtures, or stacked tensors of a bank. It has

- `forward(x, y)`, which adapts the output y (batch, …, out) of the layer whose input was x (batch, …, in),
- `reset_parameters()`, which initialises the projections,
- `fold()`, which moves every constant factor into the collapsed weights, which then describe the adapter completely,
- `sites`, the sites of a family (`peft_method.target_modules`) that it adapts unless the user names others,
- `merge(base)`, which returns a module equivalent to the layer `base` followed by the collapsed adapter.
"""

KINDS = {
    "houlsby": "adamix_train.mixture.houlsby:Houlsby",
    "lora": "adamix_train.mixture.lora:LoRA",
    "pfeiffer": "adamix_train.mixture.pfeiffer:Pfeiffer",
}
"""Kind → module and class, imported on first use: the command line lists the kinds without importing torch."""
