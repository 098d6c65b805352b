"""The layers that each model family has at a site; a new family is an entry in the table."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

SITES = ("attention", "feed_forward", "query_value")
"""Names of the places in a transformer layer that adapters can be attached to."""


@dataclass(frozen=True, kw_only=True)
class Fused:
    """A projection whose output is several equal blocks side by side, some of which belong to a site."""

    pattern: str
    """Regular expression over whole module names."""
    blocks: tuple[int, ...]
    """Indices of the blocks that belong to the site."""
    count: int
    """Number of blocks in the output."""


@dataclass(frozen=True, kw_only=True)
class Family:
    """One regular expression over whole module names for each site."""

    attention: str
    """Output projection of attention: the first of the two places of Houlsby et al. (2019)."""
    feed_forward: str
    """Last projection of the feed-forward: the second of the two, and the only one in the original AdaMix code."""
    query_value: str | Fused
    """Query and value projections: the places of LoRA in Hu et al. (2021)."""


@dataclass(frozen=True)
class Blocks:
    """The number of equal blocks in a projection's output, and which are adapted."""

    count: int
    adapted: tuple[int, ...]
    """Indices of the adapted blocks; () adapts the whole output."""


WHOLE = Blocks(1, ())


def fused_blocks(fused: Mapping[str, Sequence[int]], name: str) -> Blocks:
    """Return the blocks of the projection `name`; `fused` maps patterns to a count and the adapted blocks."""
    for pattern, (count, *adapted) in fused.items():
        if re.fullmatch(pattern, name):
            return Blocks(count, tuple(adapted))
    return WHOLE


@dataclass(frozen=True)
class Targets:
    """Fields of an AdaMixConfig."""

    target_modules: str
    """Regular expression that matches the layers of all sites."""
    fused: dict[str, list[int]]
    """Pattern of fused projections → number of blocks, then the adapted ones."""


BERT = Family(
    attention=r".*\.layer\.\d+\.attention\.output\.dense",
    feed_forward=r".*\.layer\.\d+\.output\.dense",
    query_value=r".*\.attention\.self\.(query|value)",
)
LLAMA = Family(
    attention=r".*\.self_attn\.o_proj",
    feed_forward=r".*\.mlp\.down_proj",
    query_value=r".*\.self_attn\.(q_proj|v_proj)",
)
T5 = Family(
    attention=r".*\.(SelfAttention|EncDecAttention)\.o",
    feed_forward=r".*\.DenseReluDense\.wo",
    query_value=r".*\.(SelfAttention|EncDecAttention)\.(q|v)",
)

FAMILIES: dict[str, Family] = {
    "bert": BERT,
    "deberta-v2": Family(
        attention=BERT.attention,
        feed_forward=BERT.feed_forward,
        query_value=r".*\.attention\.self\.(query_proj|value_proj)",
    ),
    "distilbert": Family(
        attention=r".*\.attention\.out_lin",
        feed_forward=r".*\.ffn\.lin2",
        query_value=r".*\.attention\.(q_lin|v_lin)",
    ),
    "electra": BERT,
    "gpt2": Family(
        attention=r".*\.attn\.c_proj",
        feed_forward=r".*\.mlp\.c_proj",
        query_value=Fused(pattern=r".*\.attn\.c_attn", blocks=(0, 2), count=3),
    ),
    "llama": LLAMA,
    "mistral": LLAMA,
    "modernbert": Family(
        attention=r".*\.attn\.Wo",
        feed_forward=r".*\.mlp\.Wo",
        query_value=Fused(pattern=r".*\.attn\.Wqkv", blocks=(0, 2), count=3),
    ),
    "mt5": T5,
    "qwen2": LLAMA,
    "qwen3": LLAMA,
    "roberta": BERT,
    "smollm3": LLAMA,
    "t5": T5,
    "xlm-roberta": BERT,
}
"""`model_type` of a transformers configuration → family."""
POSITIONS_AFTER_PADDING = frozenset(
    {
        "camembert",
        "data2vec-text",
        "esm",
        "ibert",
        "layoutlmv3",
        "lilt",
        "longformer",
        "luke",
        "markuplm",
        "mpnet",
        "roberta",
        "roberta-prelayernorm",
        "xlm-roberta",
        "xlm-roberta-xl",
        "xmod",
    }
)
"""Model types whose first token has the position after the padding token's id (MPNet: always 2)."""


def reserved_positions(model_type: str, pad_token_id: int | None) -> int:
    """Return the number of position embeddings that no token uses."""
    if model_type not in POSITIONS_AFTER_PADDING:
        return 0
    return (1 if model_type == "mpnet" else pad_token_id or 0) + 1


def default_targets(sites: Sequence[str], model_type: str) -> Targets:
    """Return the layers at `sites` of a model type.

    Raises:
        ValueError: the model type or a site is unknown; the message lists the known ones.
    """
    if model_type not in FAMILIES:
        raise ValueError(
            f"no default target modules for the model type {model_type!r}; known are {', '.join(FAMILIES)}: name the "
            "projections with target_modules (--target-modules), a regular expression over whole module names such "
            r"as '.*\.(q_proj|v_proj)', or in Python a list of their last parts"
        )
    if unknown := [site for site in sites if site not in SITES]:
        raise ValueError(f"unknown site {unknown[0]!r}; known are {', '.join(SITES)}")
    found: list[str | Fused] = [getattr(FAMILIES[model_type], site) for site in sites]
    patterns = [site.pattern if isinstance(site, Fused) else site for site in found]
    return Targets(
        target_modules=patterns[0] if len(patterns) == 1 else "|".join(f"(?:{pattern})" for pattern in patterns),
        fused={site.pattern: [site.count, *site.blocks] for site in found if isinstance(site, Fused)},
    )
