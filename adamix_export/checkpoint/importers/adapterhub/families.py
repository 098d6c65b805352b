"""The layers of each model family that the `adapters` library adapts, by its own names; a new family is an entry."""

from dataclasses import dataclass, field, replace

Form = tuple[int, str | None, bool]
"""Form of a flexible head: its linear layers, the activation between them, and if it reads the base's pooler."""


@dataclass(frozen=True, kw_only=True)
class Place:
    """A place of a transformer layer that takes a bottleneck; names are below the layer."""

    adapters: str
    """Module that holds the library's adapters."""
    dense: str
    """Last projection before the residual."""
    norm: str | None
    """Layer norm of the sum with the residual; None where the norm comes before the projections."""


@dataclass(frozen=True, kw_only=True)
class Family:
    """Names of a family: layers below the body, all others below a layer, heads below the classifier."""

    layer: str
    """Module of layer `{}`."""
    attention: Place
    feed_forward: Place
    projections: dict[str, str]
    """Letter of a projection of attention in `attn_matrices` → module."""
    intermediate: str
    """Layer that the library calls intermediate: the feed-forward's first projection, but for Llama."""
    output: str
    """Layer that the library calls output."""
    first: str
    """First projection of the feed-forward."""
    activation: str
    fused: bool = False
    """Attention's projections are equal blocks of one, in the order of `projections`."""
    heads: dict[Form, tuple[str, ...]] = field(default_factory=dict)
    """Form of a flexible head that the family's own classifier has → modules of its linear layers."""
    free_head: str = ""
    """Function in `heads` that gives a classifier a flexible head of another form; "" if there is none."""


BERT = Family(
    layer="encoder.layer.{}",
    attention=Place(adapters="attention.output", dense="attention.output.dense", norm="attention.output.LayerNorm"),
    feed_forward=Place(adapters="output", dense="output.dense", norm="output.LayerNorm"),
    projections={"q": "attention.self.query", "k": "attention.self.key", "v": "attention.self.value"},
    intermediate="intermediate.dense",
    output="output.dense",
    first="intermediate.dense",
    activation="intermediate.intermediate_act_fn",
    heads={(2, "tanh", False): ("bert.pooler.dense", "classifier"), (1, None, True): ("classifier",)},
    free_head="after_pooler",
)
ROBERTA = replace(
    BERT, heads={(2, "tanh", False): ("classifier.dense", "classifier.out_proj")}, free_head="whole_classifier"
)
ELECTRA = replace(ROBERTA, heads={(2, "gelu", False): ("classifier.dense", "classifier.out_proj")})
DEBERTA = replace(
    BERT,
    projections={letter: f"{name}_proj" for letter, name in BERT.projections.items()},
    heads={(2, "gelu", False): ("pooler.dense", "classifier")},
)
DISTILBERT = Family(
    layer="transformer.layer.{}",
    attention=Place(adapters="attention_adapters", dense="attention.out_lin", norm="sa_layer_norm"),
    feed_forward=Place(adapters="output_adapters", dense="ffn.lin2", norm="output_layer_norm"),
    projections={"q": "attention.q_lin", "k": "attention.k_lin", "v": "attention.v_lin"},
    intermediate="ffn.lin1",
    output="ffn.lin2",
    first="ffn.lin1",
    activation="ffn.activation",
    heads={(2, "relu", False): ("pre_classifier", "classifier")},
    free_head="around_relu",
)
GPT2 = Family(
    layer="h.{}",
    attention=Place(adapters="attention_adapters", dense="attn.c_proj", norm=None),
    feed_forward=Place(adapters="output_adapters", dense="mlp.c_proj", norm=None),
    projections={"q": "attn.c_attn", "k": "attn.c_attn", "v": "attn.c_attn"},
    intermediate="mlp.c_fc",
    output="mlp.c_proj",
    first="mlp.c_fc",
    activation="mlp.act",
    fused=True,
)
LLAMA = Family(
    layer="layers.{}",
    attention=Place(adapters="attention_adapters", dense="self_attn.o_proj", norm=None),
    feed_forward=Place(adapters="output_adapters", dense="mlp.down_proj", norm=None),
    projections={"q": "self_attn.q_proj", "k": "self_attn.k_proj", "v": "self_attn.v_proj"},
    intermediate="mlp.down_proj",
    output="mlp.up_proj",
    first="mlp.up_proj",
    activation="mlp.act_fn",
)
FAMILIES: dict[str, Family] = {
    "bert": BERT,
    "deberta-v2": DEBERTA,
    "distilbert": DISTILBERT,
    "electra": ELECTRA,
    "gpt2": GPT2,
    "llama": LLAMA,
    "mistral": LLAMA,
    "roberta": ROBERTA,
    "xlm-roberta": ROBERTA,
}
"""`model_type` of a base's configuration → family."""
