"""A training run as data: every field decides the outcome, or says where it is reported."""

import math
from collections.abc import Sequence
from dataclasses import MISSING, dataclass, field, fields
from typing import Any

from adamix_train.errors import RecipeError
from adamix_train.mixture.kinds import KINDS
from adamix_train.peft_method.target_modules import SITES
from adamix_train.tasks.table import TASKS

METHODS = ("adamix", "peft-lora", "head", "full")
ROUTINGS = ("batch", "example", "fixed")
COLLAPSES = ("uniform", "learned", "greedy-soup")
PRECISIONS = ("fp32", "bf16", "fp16")
REPORTING = ("report_to", "out", "eval_batch_size")
"""Fields that a resumed run may change."""


def _field(help_: str, default: Any = MISSING, *, choices: Sequence[str] | None = None) -> Any:
    return field(default=default, metadata={"help": help_, "choices": choices})


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """What is trained, on what, and how; the method's switches have the defaults of the paper and its code."""

    base: str = _field("base model: a folder, or a hub id (which is downloaded)")
    out: str = _field("folder for the run; its checkpoint is what adamix-export reads")

    task: str = _field("how data is read and judged", "classification", choices=tuple(TASKS))
    train_file: str | None = _field(
        "training data, .csv, .tsv, .jsonl or the task's official file; several are separated by commas "
        "(default: the task's set on the hub)",
        None,
    )
    validation_file: str | None = _field("validation data; without it a share of the training data is held out", None)
    validation_share: float = _field("share of the training data to hold out, of each label alike", 0.1)
    test_file: str | None = _field(
        "labelled data that is measured on once, at the end, and compared on by an export", None
    )
    text_column: str | None = _field("column of the text, or of the input to write from (default: the task's)", None)
    pair_column: str | None = _field("column of a pair's second text (default: the task's)", None)
    label_column: str | None = _field("column of the label, the score or the text to write (default: the task's)", None)
    prompt: str | None = _field(
        "generation: the text before the target, with {input} in it (default: the task's)", None
    )
    train_limit: int | None = _field("use only this many training examples, drawn with the seed", None)
    shots: int | None = _field(
        "few-shot: train on this many examples of each label (generation: inputs), and hold out as many", None
    )
    max_length: int = _field("truncate examples to this many tokens; how many were is told", 128)
    strict: bool = _field("stop at an example that would be truncated", False)

    method: str = _field(
        "what is trained: a mixture, PEFT's own LoRA, the head, all weights", "adamix", choices=METHODS
    )
    kind: str = _field("adapter kind", "houlsby", choices=tuple(KINDS))
    num_modules: int = _field("modules in each mixture; 1 trains a plain adapter, without a consistency loss", 4)
    r: int = _field("bottleneck width (houlsby, pfeiffer) or rank (lora)", 16)
    lora_alpha: float = _field("LoRA scales its output by lora_alpha / r", 32.0)
    lora_dropout: float = _field("dropout on LoRA's input", 0.0)
    share: str = _field("projection that the modules of a mixture share", "up", choices=("up", "down", "none"))
    sites: str | None = _field(
        f"where adapters sit, joined by commas: {', '.join(SITES)} (default: lora at query_value, the others at "
        "feed_forward; attention,feed_forward is Houlsby's own)",
        None,
    )
    target_modules: str | None = _field("regular expression over module names (default: by family and sites)", None)
    near_identity: bool = _field("start bottlenecks with almost no effect (default: the original's N(0, 0.02))", False)
    routing: str = _field(
        "draw a route for each batch, for each example, or once for all steps and views", "batch", choices=ROUTINGS
    )
    move_unselected: bool = _field(
        "AdamW moves modules that a step did not choose, as in the original; without, their moments stay as well, and "
        "only AdamW's count of steps goes on",
        True,
    )
    consistency_weight: float | None = _field(
        "weight of the consistency loss between two views; 0 runs one view (default: the original's for a mixture, 1 "
        "for labels and 100 for texts; 0 for everything else)",
        None,
    )
    collapse: str = _field(
        "weights of the modules in their mean: equal, learned after training, or the best mean of some of them on the "
        "validation data",
        "uniform",
        choices=COLLAPSES,
    )

    epochs: float = _field("passes over the training data", 10.0)
    batch_size: int = _field("examples in a step on each device", 32)
    eval_batch_size: int = _field("examples in a batch of an evaluation on each device", 128)
    gradient_accumulation: int = _field("batches in an optimizer step", 1)
    gradient_checkpointing: bool = _field("save memory: run each layer again in the backward pass", False)
    precision: str = _field("arithmetic of the forward pass", "fp32", choices=PRECISIONS)
    length_bucketing: bool = _field("put examples of similar length into a batch", False)
    learning_rate: float = _field("peak learning rate; linear decay", 1e-3)
    warmup_ratio: float = _field("share of the steps in which the learning rate rises", 0.06)
    weight_decay: float = _field("AdamW's weight decay", 0.1)
    label_smoothing: float = _field("of the cross-entropy on the first view", 0.0)
    eval_steps: int | None = _field("evaluate and checkpoint every so many steps (default: every epoch)", None)
    early_stopping: int | None = _field(
        "stop after this many evaluations without a better one, by the task's metric (generation: the loss)", None
    )
    num_beams: int = _field("generation: beams when the model is judged by what it writes", 1)
    length_penalty: float = _field("generation: above 1 beams favour long texts, below 1 short ones", 1.0)
    no_repeat_ngram_size: int = _field("generation: no sequence of so many tokens comes twice; 0 allows it", 0)
    max_new_tokens: int = _field("generation: most tokens that it writes", 64)
    seed: int = _field("seed of the held-out data, the head, the modules, the routes, the order and dropout", 0)
    report_to: str = _field("where Trainer reports, joined by commas: tensorboard, wandb, …, or none", "tensorboard")

    def __post_init__(self) -> None:
        for item in fields(self):
            value, choices = getattr(self, item.name), item.metadata["choices"]
            if isinstance(value, float) and not math.isfinite(value):
                raise RecipeError(f"{item.name} is {value}; it must be a finite number")
            if choices and value not in choices:
                raise RecipeError(f"{item.name} is {value!r}; known are {', '.join(choices)}")
        for name in POSITIVE:
            value = getattr(self, name)
            if value is not None and value <= 0:
                raise RecipeError(f"{name} is {value}; it must be positive")
        for name in NOT_NEGATIVE:
            value = getattr(self, name)
            if value is not None and value < 0:
                raise RecipeError(f"{name} is {value}; it must not be negative")
        for name in ("warmup_ratio", "lora_dropout", "label_smoothing"):
            if getattr(self, name) >= 1:
                raise RecipeError(f"{name} is {getattr(self, name)}; it is a share, below 1")
        if not 0 < self.validation_share < 1:
            raise RecipeError(f"validation_share is {self.validation_share}; it must be between 0 and 1")
        if self.prompt is not None and "{input}" not in self.prompt:
            raise RecipeError(f"prompt is {self.prompt!r}; it must contain {{input}}, where the input goes")
        if self.seed >= 1 << 32:
            raise RecipeError(f"seed is {self.seed}; it must be below {1 << 32}")
        if self.routing == "fixed" and self.collapse != "uniform":
            raise RecipeError(
                f"collapse is {self.collapse}, and a fixed route trains one module of each mixture: there is nothing "
                "to weigh; leave it out, or choose another --routing"
            )
        if unknown := [site for site in (self.sites or "").split(",") if site and site not in SITES]:
            raise RecipeError(f"sites names {unknown[0]!r}; known are {', '.join(SITES)}")


POSITIVE = (
    "num_modules",
    "r",
    "batch_size",
    "eval_batch_size",
    "gradient_accumulation",
    "max_length",
    "train_limit",
    "shots",
    "epochs",
    "eval_steps",
    "early_stopping",
    "num_beams",
    "max_new_tokens",
)
NOT_NEGATIVE = (
    "consistency_weight",
    "learning_rate",
    "weight_decay",
    "warmup_ratio",
    "lora_dropout",
    "label_smoothing",
    "no_repeat_ngram_size",
    "seed",
)
