"""Which projections of a model family an adapter kind adapts when the user names none."""

LAYER = r".*\.layer\.\d+\."

TARGETS: dict[str, dict[str, str]] = {
    # Houlsby: the feed-forward's second projection, the one place where the original AdaMix code has an adapter.
    "houlsby": {
        "bert": LAYER + r"output\.dense",
        "distilbert": LAYER + r"ffn\.lin2",
        "electra": LAYER + r"output\.dense",
        "llama": r".*\.mlp\.down_proj",
        "roberta": LAYER + r"output\.dense",
    },
    # LoRA: query and value, as Hu et al.
    "lora": {
        "bert": r".*\.(query|value)",
        "distilbert": r".*\.(q_lin|v_lin)",
        "electra": r".*\.(query|value)",
        "llama": r".*\.(q_proj|v_proj)",
        "roberta": r".*\.(query|value)",
    },
}
"""kind → model_type → a regular expression that a module's whole name matches."""


def default_targets(kind: str, model_type: str) -> str:
    """Return the pattern for `kind` on `model_type`, or an error that lists the known families."""
    families = TARGETS[kind]
    if model_type not in families:
        raise ValueError(
            f"no default target modules for {kind} on the model type {model_type!r}; known are "
            f"{', '.join(sorted(families))}: name the projections with target_modules (--target-modules), "
            "a regular expression over module names or a list of their last parts"
        )
    return families[model_type]
