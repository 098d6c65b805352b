"""The PEFT configuration of a mixture."""

import enum
from dataclasses import dataclass, field

import peft

from adamix_train.mixture.kinds import KINDS
from adamix_train.mixture.shape import SHARES


class AdaMixType(enum.StrEnum):
    """Name of the method, where PEFT expects a member of its own enumeration."""

    ADAMIX = "ADAMIX"


@dataclass
class AdaMixConfig(peft.PeftConfig):
    """Configuration of AdaMix for `peft.get_peft_model`; the metadata of each field documents it.

    `target_modules` and `modules_to_save` have the meaning that they have in `peft.LoraConfig`.

    Raises:
        ValueError: a field's value is unknown or outside its range.
    """

    kind: str = field(default="houlsby", metadata={"help": "adapter kind: " + ", ".join(KINDS)})
    num_modules: int = field(default=4, metadata={"help": "modules per mixture; 1 is a plain adapter"})
    r: int = field(default=16, metadata={"help": "bottleneck width (houlsby, pfeiffer) or rank (lora)"})
    lora_alpha: float = field(
        default=32.0, metadata={"help": "lora: the adapter's output is multiplied by lora_alpha / r"}
    )
    lora_dropout: float = field(default=0.0, metadata={"help": "lora: dropout probability on the adapter's input"})
    share: str = field(default="up", metadata={"help": "projection that the modules share: " + ", ".join(SHARES)})
    near_identity: bool = field(
        default=False,
        metadata={"help": "initialise a bottleneck's up projection with N(0, 0.0001) instead of N(0, 0.02)"},
    )
    seed: int = field(default=0, metadata={"help": "seed of the routes"})
    sites: list[str] | None = field(
        default=None,
        metadata={"help": "layers to adapt: attention, feed_forward, query_value (default: the kind's own)"},
    )
    target_modules: list[str] | str | None = field(
        default=None,
        metadata={
            "help": "layers to adapt by name, or as a regular expression over names (default: by family and sites)"
        },
    )
    fused: dict[str, list[int]] = field(
        default_factory=dict,
        metadata={"help": "pattern of fused projections → number of blocks in their output, then the adapted ones"},
    )
    modules_to_save: list[str] | None = field(
        default=None, metadata={"help": "modules whose weights are all trained and saved: the head"}
    )

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
