"""Where a model family has the projections that adapters sit at; a new family is an entry in the table."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

SITES = ("attention", "feed_forward", "query_value")


@dataclass(frozen=True, kw_only=True)
class Fused:
    """A projection whose output is several blocks side by side, some of which a site means."""

    pattern: str
    blocks: tuple[int, ...]
    count: int


@dataclass(frozen=True, kw_only=True)
class Family:
    """Regular expressions over the whole names of modules, one a site."""

    attention: str
    """The projection behind attention: the first of the two places of Houlsby et al. (2019)."""
    feed_forward: str
    """The feed-forward's last projection: the second of them, and the only one in the original AdaMix code."""
    query_value: str | Fused
    """Query and value: where Hu et al. (2021) put LoRA."""


@dataclass(frozen=True)
class Blocks:
    """The number of equal blocks in a projection's output, and those that are adapted; none means all of it."""

    count: int
    adapted: tuple[int, ...]


WHOLE = Blocks(1, ())


def fused_blocks(fused: Mapping[str, Sequence[int]], name: str) -> Blocks:
    """Return the blocks of the projection `name`, by the patterns of a configuration."""
    for pattern, (count, *adapted) in fused.items():
        if re.fullmatch(pattern, name):
            return Blocks(count, tuple(adapted))
    return WHOLE


@dataclass(frozen=True)
class Targets:
    """What AdaMixConfig takes: the pattern of all sites, and the blocks of those that are fused."""

    target_modules: str
    fused: dict[str, list[int]]
    """Pattern → the number of blocks, and the adapted ones."""


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
"""By the `model_type` of a configuration."""
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
"""Model types whose first token has the position behind the padding token's id (MPNet: always 2)."""


def reserved_positions(model_type: str, pad_token_id: int | None) -> int:
    """Return how many position embeddings of a model no token takes."""
    if model_type not in POSITIONS_AFTER_PADDING:
        return 0
    return (1 if model_type == "mpnet" else pad_token_id or 0) + 1


def default_targets(sites: Sequence[str], model_type: str) -> Targets:
    """Return the projections at `sites` of a family, or an error that lists the known families."""
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
