"""A training run as data."""

from collections.abc import Sequence
from dataclasses import MISSING, dataclass, field
from typing import Any

from adamix_train.mixture.kinds import KINDS
from adamix_train.mixture.shape import SHARES
from adamix_train.peft_method.target_modules import SITES
from adamix_train.recipe.checks import check
from adamix_train.tasks.table import TASKS

METHODS = ("adamix", "peft-lora", "head", "full")
ROUTINGS = ("batch", "example", "shares", "fixed")
VIEWS = ("first", "both")
COLLAPSES = ("uniform", "learned", "greedy-soup")
PRECISIONS = ("fp32", "bf16", "fp16")
CHOSEN = "chosen from the rows, the adapter and the base, and printed"
CLASS_WEIGHTS = ("balanced",)
REPORTING = ("report_to", "out", "eval_batch_size")
"""Fields that a resumed run may change."""


def _field(help_: str, default: Any = MISSING, *, choices: Sequence[str] | None = None) -> Any:
    return field(default=default, metadata={"help": help_, "choices": choices})


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """Everything that decides the outcome of a training run; each field is also a flag of adamix-train.

    The method's switches default to the settings of AdaMix (Wang et al., 2022) and its code; those that are None are
    chosen by `recipe.defaults`. The metadata of a field holds its documentation (`help`) and, where they are few, its
    values (`choices`).

    Raises:
        RecipeError: a field's value is outside its range, or two fields contradict each other.
    """

    base: str = _field("base model: a folder, or a Hub id, which is downloaded")
    out: str = _field("folder of the run; at the end it is the checkpoint that adamix-export reads")

    task: str = _field(
        "how data is read and which metrics are computed; one of GLUE's or of the data-to-text sets is downloaded "
        "from the Hub without --train-file",
        "classification",
        choices=tuple(TASKS),
    )
    train_file: str | None = _field(
        "training data: .csv, .tsv, .jsonl, .parquet or the task's official file; separate several with commas "
        "(default: the task's set on the Hub)",
        None,
    )
    validation_file: str | None = _field(
        "validation data, which selects the best checkpoint (default: hold out --validation-share)", None
    )
    validation_share: float = _field(
        "share of the training data to hold out, between 0 and 1, stratified by label", 0.1
    )
    test_file: str | None = _field(
        "labelled data to measure the final model on; adamix-export compares its predictions on it", None
    )
    text_column: str | None = _field("column of the text, or of generation's input (default: the task's)", None)
    pair_column: str | None = _field("column of the second text of a pair (default: the task's)", None)
    label_column: str | None = _field("column of the label, score or target text (default: the task's)", None)
    delimiter: str | None = _field(
        "character between the fields of .csv, .tsv and .txt files, or its name: tab, comma, semicolon, bar (default: "
        "recognised in the first line)",
        None,
    )
    prompt: str | None = _field(
        "generation: template of the text before the target; {input} stands for the input (default: the task's)", None
    )
    train_limit: int | None = _field("train on at most this many examples, sampled with --seed (default: all)", None)
    metric: str | None = _field(
        "metric that selects the best checkpoint, one of the task's, or loss; for your own labels accuracy, macro_f1 "
        "or matthews (default: the task's first; a generation is selected by its loss)",
        None,
    )
    class_weights: str | None = _field(
        "weigh the loss of a classification's rows by their labels: balanced weighs all labels alike (default: all "
        "rows alike)",
        None,
        choices=CLASS_WEIGHTS,
    )
    shots: int | None = _field(
        "few-shot training: this many examples of each label (generation: inputs) to train on, and as many to "
        "validate on (default: all)",
        None,
    )
    max_length: int = _field(
        "truncate inputs to this many tokens, special tokens included; truncations are counted", 128
    )
    strict: bool = _field("stop at an example longer than --max-length instead of truncating it", False)
    init_from: str | None = _field("begin with the weights of a finished run: its folder (default: new adapters)", None)

    method: str = _field(
        "what is trained: a mixture of adapters, PEFT's LoRA, the head alone, or all weights", "adamix", choices=METHODS
    )
    kind: str = _field(
        "adapter: bottleneck with GELU (houlsby) or ReLU (pfeiffer), or low-rank (lora)",
        "houlsby",
        choices=tuple(KINDS),
    )
    num_modules: int = _field("modules per mixture (paper, section 3.1); 1 trains a plain adapter", 4)
    r: int = _field("bottleneck width (houlsby, pfeiffer) or rank (lora)", 16)
    lora_alpha: float = _field("lora: the adapter's output is multiplied by lora_alpha / r", 32.0)
    lora_dropout: float = _field("lora: dropout probability on the adapter's input", 0.0)
    base_dropout: float | None = _field(
        "dropout probability of the base's own layers in training (default: what its config.json says)", None
    )
    share: str = _field("projection that the modules of a mixture share (paper, section 3.4)", "up", choices=SHARES)
    sites: str | None = _field(
        f"layers to adapt, separated by commas: {', '.join(SITES)} (default: query_value for lora, feed_forward for "
        "the others; attention,feed_forward is the placement of Houlsby et al.)",
        None,
    )
    target_modules: str | None = _field(
        "layers to adapt as a regular expression over whole module names (default: by model family and --sites)", None
    )
    near_identity: bool = _field(
        "initialise a bottleneck's up projection with standard deviation 0.0001, close to no effect (default: the "
        "original's 0.02)",
        False,
    )
    routing: str | None = _field(
        "give every module an equal share of each batch (shares), or draw the modules to use for each batch (paper, "
        "section 3.1), for each example, or once for the whole run (fixed) (default: shares for a mixture that learns "
        "labels, otherwise batch)",
        None,
        choices=ROUTINGS,
    )
    update_unselected: bool = _field(
        "let AdamW's momentum and weight decay move modules that a step did not use, as in the original; without, "
        "their weights and moments stay as they are",
        True,
    )
    consistency_weight: float | None = _field(
        "weight of the consistency loss between two passes with different routes (paper, section 3.2); 0 runs one pass "
        "(default: for a mixture the original's, 1 for classification and 100 for generation; otherwise 0)",
        None,
    )
    consistency_from: float | None = _field(
        "share of the steps after which the second view, and the consistency loss, begin (default: 0.5 for a mixture "
        "that learns labels by shares, otherwise 0)",
        None,
    )
    labels_on: str | None = _field(
        "views on which the task's loss is computed: the first, or both (default: both for a mixture that "
        "learns labels by shares with a consistency loss, otherwise the first)",
        None,
        choices=VIEWS,
    )
    split_after: float = _field(
        "share of the steps in which one module of each mixture is trained alone; it is then copied to the others", 0.0
    )
    pull: float = _field(
        "after each step, move the modules by this share of the way towards their mean, as PAPA does (Jolicoeur-"
        "Martineau et al., 2024)",
        0.0,
    )
    module_rate: float = _field(
        "learning rate of the projections that modules do not share, as a multiple of the learning rate", 1.0
    )
    average: str | None = _field(
        "evaluate and keep, at the end, the mean of the weights over steps instead of the best checkpoint: last:0.25 "
        "over the last quarter of the steps, ema:0.99 with so much of the old mean in each step (default: no)",
        None,
    )
    expand_rank: int | None = _field(
        "lora, one module: train with this rank, and cut it to --r by singular value decomposition at the end "
        "(default: no)",
        None,
    )
    collapse: str = _field(
        "module weights of the mean that is evaluated and exported (paper, section 3.3): uniform, learned after "
        "training, or a greedy soup of the modules that improve the validation metric",
        "uniform",
        choices=COLLAPSES,
    )

    epochs: float | None = _field(f"passes over the training data (default: {CHOSEN}, about 600 steps)", None)
    batch_size: int | None = _field(f"examples per device in a forward pass (default: {CHOSEN}, 16 or 32)", None)
    eval_batch_size: int = _field("examples per device in a forward pass of an evaluation", 128)
    gradient_accumulation: int = _field("batches per optimizer step", 1)
    gradient_checkpointing: bool = _field("recompute activations in the backward pass: less memory, more time", False)
    precision: str = _field("number format of forward and backward passes", "fp32", choices=PRECISIONS)
    compile: bool = _field(
        "compile the model with torch.compile: faster steps after a start of a minute or so, worth it on a GPU", False
    )
    length_bucketing: bool = _field("batch examples of similar length, which saves padding", False)
    learning_rate: float | None = _field(
        f"peak learning rate of AdamW; it decays linearly to 0 (default: {CHOSEN})", None
    )
    warmup_ratio: float | None = _field(
        f"share of the steps in which the learning rate rises to its peak, below 1 (default: {CHOSEN})", None
    )
    weight_decay: float = _field("weight decay of AdamW", 0.1)
    label_smoothing: float = _field("label smoothing of the cross-entropy, below 1", 0.0)
    eval_steps: int | None = _field(
        "optimizer steps between evaluations and checkpoints (default: an epoch, or less for 10 evaluations, or more "
        "for 20)",
        None,
    )
    early_stopping: int | None = _field(
        "stop after this many evaluations without improvement of --metric, or of what it is by default (default: "
        "never)",
        None,
    )
    num_beams: int = _field("generation: beams with which texts for the metrics are generated; 1 is greedy", 1)
    length_penalty: float = _field("generation: with beams, above 1 prefers long texts and below 1 short ones", 1.0)
    no_repeat_ngram_size: int = _field("generation: no n-gram of this many tokens repeats in a text; 0 allows all", 0)
    max_new_tokens: int = _field("generation: longest generated text, in tokens", 64)
    seed: int = _field("seed of splits, head, modules, routes, order of the examples and dropout", 0)
    report_to: str = _field("where to log, separated by commas: tensorboard, wandb, … or none", "tensorboard")

    @property
    def is_mixture(self) -> bool:
        """Several modules are trained at each place."""
        return self.method == "adamix" and self.num_modules > 1

    def __post_init__(self) -> None:
        check(self)
