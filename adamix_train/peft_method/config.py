"""AdaMix as a PEFT configuration."""

import enum
from dataclasses import dataclass, field

import peft

from adamix_train.mixture.kinds import KINDS

SHARES = ("up", "down", "none")


class AdaMixType(enum.StrEnum):
    """The method's name where PEFT expects a member of its own enumeration."""

    ADAMIX = "ADAMIX"


@dataclass
class AdaMixConfig(peft.PeftConfig):
    """The shape of a mixture. `target_modules` and `modules_to_save` mean what they mean in PEFT's LoRA."""

    kind: str = field(default="houlsby", metadata={"help": "adapter kind: " + ", ".join(KINDS)})
    num_modules: int = field(default=4, metadata={"help": "modules in each mixture; 1 is the plain adapter"})
    r: int = field(default=16, metadata={"help": "bottleneck width (houlsby) or rank (lora)"})
    lora_alpha: float = field(default=32.0, metadata={"help": "LoRA scales its output by lora_alpha / r"})
    lora_dropout: float = field(default=0.0, metadata={"help": "dropout on LoRA's input"})
    share: str = field(default="up", metadata={"help": "the projection that all modules share: up, down or none"})
    near_identity: bool = field(
        default=False, metadata={"help": "start bottlenecks with almost no effect instead of the original's N(0, 0.02)"}
    )
    seed: int = field(default=0, metadata={"help": "seed of the routes"})
    sites: list[str] | None = field(
        default=None, metadata={"help": "attention, feed_forward, query_value; by default the kind's own"}
    )
    target_modules: list[str] | str | None = field(
        default=None, metadata={"help": "names, or a regular expression over names, of the projections to adapt"}
    )
    fused: dict[str, list[int]] = field(
        default_factory=dict,
        metadata={"help": "pattern of fused projections: the number of blocks in their output, and those adapted"},
    )
    modules_to_save: list[str] | None = field(default=None, metadata={"help": "modules trained whole: the head"})

    def __post_init__(self) -> None:
        super().__post_init__()
        self.peft_type = AdaMixType.ADAMIX
        if self.kind not in KINDS:
            raise ValueError(f"kind is {self.kind!r}; known are {', '.join(KINDS)}")
        if self.share not in SHARES:
            raise ValueError(f"share is {self.share!r}; known are {', '.join(SHARES)}")
        for name in ("num_modules", "r"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} is {getattr(self, name)}; it must be at least 1")
        if not 0 <= self.lora_dropout < 1:
            raise ValueError(f"lora_dropout is {self.lora_dropout}; it must be in [0, 1)")
