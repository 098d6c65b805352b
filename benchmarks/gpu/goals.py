"""The goals of the GPU, each with the key under which a part returns its figure."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from benchmarks.support.report import Goal


@dataclass(frozen=True, kw_only=True)
class Target:
    """A goal before it is measured."""

    what: str
    goal: float
    better: Literal["higher", "lower"] = "higher"

    def with_value(self, value: float | None) -> Goal:
        """Return the goal with its figure; None stands for one that was not measured."""
        return Goal(what=self.what, value=value, goal=self.goal, better=self.better)


TARGETS: dict[str, Target] = {
    "large_share": Target(what="RoBERTa-large shape, fp16, 64x128: share of the matrix rate", goal=0.5),
    "large_compiled": Target(what="RoBERTa-large shape, fp16, 64x128: speed by torch.compile's", goal=1.0),
    "mixed": Target(what="mixed real lengths: packed by padded in the order of arrival", goal=1.8),
    "bank_lora": Target(
        what="64 LoRA adapters in a batch of 64: time by the merged graph's", goal=1.10, better="lower"
    ),
    "bank_houlsby": Target(
        what="64 Houlsby adapters in a batch of 64: time by the merged graph's", goal=1.10, better="lower"
    ),
    **{
        f"{key}_{model}": Target(what=f"{name}, {what}", goal=goal, better=better)  # type: ignore[arg-type]
        for model, name in (("smollm2", "SmolLM2"), ("gpt2-medium", "GPT-2-medium shape"))
        for key, what, goal, better in (
            ("decode_static", "batch 1: decoding by generate with a compiled static cache", 3.0, "higher"),
            ("decode_bank", "batch 64, each row its own adapter: time by merged", 1.15, "lower"),
            ("decode_batch", "tokens a second at batch 64 by those at batch 1", 40.0, "higher"),
            ("slot_write", "milliseconds of a step for a slot write while decoding", 0.2, "lower"),
        )
    },
    "decode_bandwidth": Target(what="GPT-2-medium shape, batch 1: bytes a second by those of a device copy", goal=0.4),
}
"""Goals by the key of their figure."""


def goals_of(figures: Mapping[str, float]) -> list[Goal]:
    """Return every goal, in order, with its figure if there is one."""
    return [target.with_value(figures.get(key)) for key, target in TARGETS.items()]
