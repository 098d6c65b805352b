"""Sampling parameters: the part of a generation request that says how tokens are chosen."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from typing import Any

import numpy as np

from serve.errors import InputError

MAX_STOP_STRINGS, MAX_STOP_LENGTH = 64, 256
MAX_BIASES = 1024
MAX_LOGPROBS = 20
MAX_BEAMS = 64
MAX_TOKEN_IDS = 2**18
"""Most tokens of a list that a request gives."""
MAX_NGRAM = 128
"""Each token is compared with as many before it, at every position of the prompt and the text."""
GREEDY_BELOW = 1e-4
"""Temperatures below this are greedy: dividing the logits by less overflows fp32."""
CLIENT_NAMES = {"max_new_tokens": "max_tokens", "min_new_tokens": "min_tokens"}
"""Names of fields in every protocol, where these are not the engine's."""
OTHER_NAMES = {
    **CLIENT_NAMES,
    "max_length": "max_tokens",
    "min_length": "min_tokens",
    "stop_sequences": "stop",
    "stop_words": "stop",
    "random_seed": "seed",
    "beam_width": "num_beams",
}
"""Names that other servers have for fields, with those of every protocol here."""
TINY = 1e-9
"""Total probability of the most probable token alone."""
NEUTRAL_ELSEWHERE: dict[str, tuple[Any, Any]] = {"top_k": (-1, 0), "top_p": (0, TINY), "seed": (-1, None)}
"""Values that other servers take, and the engine's values of the same meaning."""


@dataclass(frozen=True, kw_only=True)
class SamplingParams:
    """Sampling parameters, named as in transformers and OpenAI's API; the default is greedy decoding.

    Raises:
        InputError: A value has the wrong type or is out of range.
    """

    max_new_tokens: int | None = None
    """Most tokens to generate; None takes 64, or fewer if the model's context leaves less. 0 only reads the prompt."""
    min_new_tokens: int = 0
    """Neither an end-of-sequence token nor a stop string ends the text before it has so many tokens."""
    temperature: float = 0.0
    """Divides the logits; 0 is greedy, and `top_k`, `top_p` and `min_p` then have no effect."""
    top_k: int = 0
    """Sample from the k most probable tokens; 0 keeps all."""
    top_p: float = 1.0
    """Sample from the smallest set of most probable tokens with this total probability."""
    min_p: float = 0.0
    """Drop tokens whose probability is below this fraction of the largest."""
    repetition_penalty: float = 1.0
    """Penalise tokens of the prompt and of the generated text, as in transformers; 1 is off."""
    presence_penalty: float = 0.0
    """Subtracted once from the logit of every generated token, as in OpenAI's API."""
    frequency_penalty: float = 0.0
    """Subtracted from a token's logit for each time it was generated, as in OpenAI's API."""
    no_repeat_ngram_size: int = 0
    """Forbid n-grams of this size to occur twice, the prompt included; 0 is off."""
    logit_bias: Mapping[int, float] = field(default_factory=dict)
    """Added to logits, by token id."""
    stop: Sequence[str] = ()
    """Strings that end the text; they are not part of it."""
    stop_token_ids: Sequence[int] = ()
    """Tokens that end the text, beside the end-of-sequence tokens."""
    ignore_eos: bool = False
    """End-of-sequence tokens do not end the text."""
    include_stop_str_in_output: bool = False
    """Keep the string or token that ended the text."""
    skip_special_tokens: bool = True
    """Special tokens have no text."""
    allowed_token_ids: Sequence[int] = ()
    """Generate these tokens alone; empty allows all."""
    bad_words: Sequence[str] = ()
    """Words that are not generated, at the beginning of a word or inside one."""
    logprobs: int | None = None
    """Return the log probability of each token and of this many most probable ones; None returns none."""
    prompt_logprobs: int | None = None
    """Return the same for each token of the prompt but the first, which is then read token by token."""
    logprob_token_ids: Sequence[int] = ()
    """With log probabilities, return those of these tokens in the place of the most probable ones."""
    seed: int | None = None
    """Seed of the random draws; None takes one from the operating system."""
    n: int = 1
    """Results for each prompt; result i is drawn with `seed + i`, or the next best of a beam search."""
    json_schema: Mapping[str, Any] | None = None
    """Constrain the text to JSON that is valid under this schema, unless `max_new_tokens` ends it first."""
    grammar: str | None = None
    """Constrain the text to a grammar, in llguidance's dialect of Lark or in GBNF, with the same exception."""
    num_beams: int = 1
    """Beams of a beam search; 1 is no search."""
    length_penalty: float = 1.0
    """Exponent of a beam's length: score = sum of log probabilities / length ** length_penalty."""

    def __post_init__(self) -> None:
        if isinstance(self.stop, str):
            object.__setattr__(self, "stop", (self.stop,))
        self._check_types()
        for name in (*STRING_LISTS, *TOKEN_LISTS):
            object.__setattr__(self, name, tuple(getattr(self, name)))
        self._check_ranges()
        self._check_collections()
        self._check_combinations()

    def _check_types(self) -> None:
        for one in fields(self):
            value, kinds = getattr(self, one.name), ACCEPTED_TYPES[one.type]
            if not isinstance(value, kinds) or isinstance(value, bool) != (kinds == (bool,)):
                raise InputError(f"{one.name} is {value!r}: it must be of type {kinds[0].__name__}", one.name)
        for name in STRING_LISTS:
            if not all(isinstance(text, str) for text in getattr(self, name)):
                raise InputError(f"{name} has an entry that is not a string", name)
        for name in (*TOKEN_LISTS, "logit_bias"):
            if not all(isinstance(token, INTEGER) for token in getattr(self, name)):
                raise InputError(f"{name} has an entry that is not a token id", name)

    def _check_ranges(self) -> None:
        for name, good, rule in (
            ("max_new_tokens", self.max_new_tokens is None or self.max_new_tokens >= 0, "at least 0"),
            ("min_new_tokens", 0 <= self.min_new_tokens <= (self.max_new_tokens or np.inf), "0 to max_new_tokens"),
            ("temperature", 0 <= self.temperature < np.inf, "0 or more"),
            ("top_k", self.top_k >= 0, "0 (all) or more"),
            ("top_p", 0 < self.top_p <= 1, "above 0 and at most 1"),
            ("min_p", 0 <= self.min_p <= 1, "from 0 to 1"),
            ("repetition_penalty", 0.01 <= self.repetition_penalty <= 100, "from 0.01 to 100"),
            ("presence_penalty", abs(self.presence_penalty) <= 2, "from -2 to 2"),
            ("frequency_penalty", abs(self.frequency_penalty) <= 2, "from -2 to 2"),
            ("no_repeat_ngram_size", 0 <= self.no_repeat_ngram_size <= MAX_NGRAM, f"0 (off) to {MAX_NGRAM}"),
            ("logprobs", self.logprobs is None or 0 <= self.logprobs <= MAX_LOGPROBS, f"0 to {MAX_LOGPROBS}"),
            ("prompt_logprobs", 0 <= (self.prompt_logprobs or 0) <= MAX_LOGPROBS, f"0 to {MAX_LOGPROBS}"),
            ("seed", self.seed is None or self.seed >= 0, "0 or more"),
            ("n", 1 <= self.n <= MAX_BEAMS, f"1 to {MAX_BEAMS}"),
            ("num_beams", 1 <= self.num_beams <= MAX_BEAMS, f"1 to {MAX_BEAMS}"),
            ("length_penalty", abs(self.length_penalty) <= 10, "from -10 to 10"),
        ):
            if not good:
                raise InputError(f"{name} is {getattr(self, name)}: it must be {rule}", name)

    def _check_collections(self) -> None:
        for name in STRING_LISTS:
            given = getattr(self, name)
            if len(given) > MAX_STOP_STRINGS or not all(given):
                most = f"give at most {MAX_STOP_STRINGS}, none of them empty"
                raise InputError(f"{name} has {len(given)} strings: {most}", name)
            if any(len(text) > MAX_STOP_LENGTH for text in given):
                raise InputError(f"{name} has a string of more than {MAX_STOP_LENGTH} characters: shorten it", name)
        for name in TOKEN_LISTS:
            if len(given := getattr(self, name)) > MAX_TOKEN_IDS:
                raise InputError(f"{name} names {len(given)} tokens: give at most {MAX_TOKEN_IDS}", name)
        check_bias_count(self.logit_bias)
        if not all(abs(bias) <= 100 for bias in self.logit_bias.values()):
            raise InputError("logit_bias has a value that is not a number from -100 to 100", "logit_bias")

    def _check_combinations(self) -> None:
        if self.num_beams > 1 and (others := self.given(BEAMLESS)):
            raise InputError(f"{', '.join(others)}: a beam search goes without, leave out either", others[0])
        if self.num_beams > 1 and self.max_new_tokens == 0:
            raise InputError("a beam search has something to find: max_new_tokens is 0", "max_new_tokens")
        if self.num_beams > 1 and self.n > self.num_beams:
            raise InputError(f"n is {self.n}: a search with {self.num_beams} beams has no more results", "n")
        if self.num_beams == 1 and self.length_penalty != 1:
            raise InputError("length_penalty goes with a beam search: set num_beams to 2 or more", "length_penalty")
        if self.json_schema is not None and self.grammar is not None:
            raise InputError("json_schema and grammar are both given: a text has one constraint", "grammar")
        if self.ignore_eos and self.is_constrained:
            raise InputError("ignore_eos goes without json_schema and grammar: these end the text", "ignore_eos")
        if self.logprob_token_ids and not self.reports_any:
            raise InputError("logprob_token_ids goes with logprobs: set logprobs to 0", "logprob_token_ids")

    def given(self, names: Sequence[str]) -> list[str]:
        """Return those of some fields that ask for anything."""
        asked = {"temperature": self.is_sampling, **{name: getattr(self, name) is not None for name in OPTIONAL}}
        return [name for name in names if asked.get(name, getattr(self, name))]

    @property
    def is_sampling(self) -> bool:
        """Tokens are drawn at random rather than chosen greedily."""
        return self.temperature >= GREEDY_BELOW

    @property
    def is_constrained(self) -> bool:
        """A grammar decides which tokens are allowed."""
        return self.constraint is not None

    @property
    def constraint(self) -> Mapping[str, Any] | str | None:
        """The JSON schema or the grammar that the text follows."""
        return self.json_schema if self.grammar is None else self.grammar

    @property
    def reports_any(self) -> bool:
        """Log probabilities are returned, of the text or of the prompt."""
        return self.logprobs is not None or self.prompt_logprobs is not None

    @property
    def masks_tokens(self) -> bool:
        """Some tokens may not come next, beside those that a grammar or a penalty excludes."""
        return any(getattr(self, name) for name in MASKING)

    @property
    def changes_logits(self) -> bool:
        """Penalties, biases, banned n-grams or a grammar change logits before a token is chosen."""
        return bool(
            self.repetition_penalty != 1
            or self.presence_penalty
            or self.frequency_penalty
            or self.no_repeat_ngram_size
            or self.logit_bias
            or self.masks_tokens
            or self.is_constrained
        )

    @property
    def only_draws(self) -> bool:
        """Tokens are drawn from logits as they are, and nothing else is asked of these."""
        return self.is_sampling and not (self.changes_logits or self.reports_any)

    @property
    def raises_logits(self) -> bool:
        """A logit may be changed to a higher one."""
        return (
            self.repetition_penalty < 1
            or min(self.presence_penalty, self.frequency_penalty) < 0
            or any(bias > 0 for bias in self.logit_bias.values())
        )

    @property
    def is_greedy(self) -> bool:
        """The next token is the argmax of the raw logits: nothing samples, penalises or constrains."""
        return not self.is_sampling and not self.changes_logits


def from_client(given: Mapping[str, Any]) -> SamplingParams:
    """Return the parameters of a client's values by the engine's names; some mean what they mean elsewhere.

    Raises:
        InputError: A value has the wrong type or is out of range.
    """
    changed = {
        name: ours
        for name, (theirs, ours) in NEUTRAL_ELSEWHERE.items()
        if not isinstance(given.get(name), bool) and given.get(name) == theirs
    }
    return SamplingParams(**{**given, **changed})


def check_bias_count(biases: Mapping[Any, Any]) -> None:
    """Raise an InputError if a `logit_bias` has too many entries."""
    if len(biases) > MAX_BIASES:
        raise InputError(f"logit_bias names {len(biases)} tokens: give at most {MAX_BIASES}", "logit_bias")


STRING_LISTS = ("stop", "bad_words")
TOKEN_LISTS = ("stop_token_ids", "allowed_token_ids", "logprob_token_ids")
OPTIONAL = ("logprobs", "prompt_logprobs", "json_schema", "grammar")
"""Fields that are None where they ask for nothing."""
MASKING = ("min_new_tokens", "allowed_token_ids", "bad_words")
"""Fields that say which tokens may come next."""
BEAMLESS = ("temperature", "stop", *OPTIONAL, *MASKING)
"""Fields that a beam search goes without."""
EXCLUDING = ("json_schema", "grammar", *MASKING, "no_repeat_ngram_size")
"""Fields that may leave no token."""
INTEGER, REAL = (int, np.integer), (float, int, np.floating, np.integer)
ACCEPTED_TYPES: dict[object, tuple[type, ...]] = {
    bool: (bool,),
    int: INTEGER,
    int | None: (*INTEGER, type(None)),
    float: REAL,
    str | None: (str, type(None)),
    Sequence[str]: (Sequence,),
    Sequence[int]: (Sequence,),
    Mapping[int, float]: (Mapping,),
    Mapping[str, Any] | None: (Mapping, type(None)),
}
"""Python types accepted for a field, by the field's annotation."""
GREEDY = SamplingParams()
