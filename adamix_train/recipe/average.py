"""The rule by which weights are averaged over steps: last:SHARE or ema:DECAY."""

from dataclasses import dataclass

from adamix_train.errors import RecipeError

RULES = ("last", "ema")


@dataclass(frozen=True)
class Average:
    """A rule."""

    rule: str
    """last: equal weights over the last steps; ema: an exponential moving average over all."""
    value: float
    """last: share of the steps, above 0 and at most 1; ema: what is kept of the mean in each step, in (0, 1)."""

    @classmethod
    def parse(cls, text: str) -> "Average":
        """Return the rule in `text`, such as last:0.25; raise RecipeError if it is none."""
        rule, _, number = text.partition(":")
        try:
            value = float(number)
        except ValueError:
            value = 0.0
        if rule not in RULES or not (0 < value < 1 or (rule, value) == ("last", 1)):
            raise RecipeError(
                f"average is {text!r}; it is last: and a share of the steps, such as last:0.25, or ema: and what a "
                "step keeps of the mean, such as ema:0.99"
            )
        return cls(rule, value)
