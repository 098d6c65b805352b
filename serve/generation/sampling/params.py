"""The sampling parameters of a request."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from typing import Any

import numpy as np

from serve.errors import InputError

MOST_STOPS, LONGEST_STOP = 64, 256
MOST_BIASES = 1024
GREEDY_BELOW = 1e-4
"""Temperatures below this take the likeliest token: logits divided by less leave what fp32 holds."""
MOST_LOGPROBS = 20
MOST_BEAMS = 64
LONGEST_NGRAM = 128
"""Every token is compared with as many before it, once for each place in the prompt and the text."""


@dataclass(frozen=True, kw_only=True)
class Sampling:
    """What a request asks for; by default the likeliest token at every step."""

    max_new_tokens: int | None = None
    """By default 64, or fewer if the model's context leaves less room."""
    temperature: float = 0.0
    """0 takes the likeliest token, and so does what is nearly 0; the others below are then without effect."""
    top_k: int = 0
    """Only so many of the likeliest tokens; 0 is all."""
    top_p: float = 1.0
    """Only the likeliest tokens that have this probability together."""
    min_p: float = 0.0
    """Only tokens of at least this share of the likeliest one's probability."""
    repetition_penalty: float = 1.0
    presence_penalty: float = 0.0
    frequency_penalty: float = 0.0
    no_repeat_ngram_size: int = 0
    """No run of so many tokens twice, the prompt's included; 0 is off."""
    logit_bias: Mapping[int, float] = field(default_factory=dict)
    stop: Sequence[str] = ()
    """Texts that end the answer, and are not part of it."""
    logprobs: int | None = None
    """With each token its logarithmic probability, and that of so many of the likeliest."""
    seed: int | None = None
    n: int = 1
    """Answers to each prompt; the second is drawn with the seed after the first's."""
    json_schema: Mapping[str, Any] | None = None
    """The text is JSON of this schema, if it ends by itself."""
    beams: int = 1
    """More than one searches for the likeliest text rather than the likeliest token."""
    length_penalty: float = 1.0
    """Of a beam search: the power of its length that a text's score is divided by."""

    def __post_init__(self) -> None:
        if isinstance(self.stop, str):
            object.__setattr__(self, "stop", (self.stop,))
        self._check_types()
        for name, good, rule in (
            ("max_new_tokens", self.max_new_tokens is None or self.max_new_tokens >= 1, "at least 1"),
            ("temperature", 0 <= self.temperature < np.inf, "0 or more"),
            ("top_k", self.top_k >= 0, "0 (all) or more"),
            ("top_p", 0 < self.top_p <= 1, "above 0 and at most 1"),
            ("min_p", 0 <= self.min_p <= 1, "from 0 to 1"),
            ("repetition_penalty", 0.01 <= self.repetition_penalty <= 100, "from 0.01 to 100"),
            ("presence_penalty", abs(self.presence_penalty) <= 2, "from -2 to 2"),
            ("frequency_penalty", abs(self.frequency_penalty) <= 2, "from -2 to 2"),
            ("no_repeat_ngram_size", 0 <= self.no_repeat_ngram_size <= LONGEST_NGRAM, f"0 to {LONGEST_NGRAM}"),
            ("logprobs", self.logprobs is None or 0 <= self.logprobs <= MOST_LOGPROBS, f"0 to {MOST_LOGPROBS}"),
            ("seed", self.seed is None or self.seed >= 0, "0 or more"),
            ("n", 1 <= self.n <= MOST_BEAMS, f"1 to {MOST_BEAMS}"),
            ("beams", 1 <= self.beams <= MOST_BEAMS, f"1 to {MOST_BEAMS}"),
            ("length_penalty", abs(self.length_penalty) <= 10, "from -10 to 10"),
        ):
            if not good:
                raise InputError(f"{name} is {getattr(self, name)}: it must be {rule}")
        if len(self.stop) > MOST_STOPS or not all(self.stop):
            raise InputError(f"stop has {len(self.stop)} texts: give at most {MOST_STOPS}, none of them empty")
        if any(len(text) > LONGEST_STOP for text in self.stop):
            raise InputError(f"stop has a text of more than {LONGEST_STOP} characters: give shorter ones")
        check_biases(self.logit_bias)
        if not all(abs(bias) <= 100 for bias in self.logit_bias.values()):
            raise InputError("logit_bias has a value that is not a number from -100 to 100")
        if self.beams > 1 and (self.temperature or self.stop or self.logprobs is not None or self.n > 1 or self.guided):
            raise InputError("a beam search goes without temperature, stop, logprobs, n and json_schema")

    def _check_types(self) -> None:
        for one in fields(self):
            value, kinds = getattr(self, one.name), TYPES[one.type]
            if not isinstance(value, kinds) or isinstance(value, bool):
                raise InputError(f"{one.name} is {value!r}: it must be of type {kinds[0].__name__}")
        if not all(isinstance(text, str) for text in self.stop):
            raise InputError("stop has something that is no text")
        if not all(isinstance(token, int) for token in self.logit_bias):
            raise InputError("logit_bias has a token that is not its number")

    @property
    def drawn(self) -> bool:
        """Whether the next token is drawn rather than the likeliest one."""
        return self.temperature >= GREEDY_BELOW

    @property
    def guided(self) -> bool:
        """Whether not every token may come next."""
        return self.json_schema is not None

    @property
    def plain(self) -> bool:
        """Whether the likeliest token is taken, whatever was written before."""
        return (
            not self.drawn
            and self.repetition_penalty == 1
            and not self.presence_penalty
            and not self.frequency_penalty
            and not self.no_repeat_ngram_size
            and not self.logit_bias
            and not self.guided
        )


def check_biases(biases: Mapping[Any, Any]) -> None:
    """Raise an error if a `logit_bias` names more tokens than it may."""
    if len(biases) > MOST_BIASES:
        raise InputError(f"logit_bias names {len(biases)} tokens: give at most {MOST_BIASES}")


WHOLE, REAL = (int, np.integer), (float, int, np.floating, np.integer)
TYPES: dict[object, tuple[type, ...]] = {
    int: WHOLE,
    int | None: (*WHOLE, type(None)),
    float: REAL,
    Sequence[str]: (Sequence,),
    Mapping[int, float]: (Mapping,),
    Mapping[str, Any] | None: (Mapping, type(None)),
}
"""What a program may give for a field, which nothing else checks, by the type that the field has."""
GREEDY = Sampling()
