"""Requests to an engine, the same for every protocol."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from serve.errors import InputError
from serve.sampling_params import GREEDY, SamplingParams

Text = str | tuple[str, str]
"""One text, or a pair of texts."""


@dataclass(frozen=True, kw_only=True)
class ClassificationRequest:
    """Texts or pairs to classify, each through an adapter.

    Raises:
        InputError: There are not as many adapters as texts, or an overlap without windows.
    """

    texts: Sequence[Text]
    adapters: Sequence[str | None]
    """One name for each text; None selects the only adapter."""
    truncate: bool = False
    """Cut texts that are too long; otherwise they are an InputError."""
    windows: bool = False
    """Split long texts into overlapping windows and average the windows' scores."""
    overlap: int | None = None
    """Tokens that neighbouring windows share; None takes a quarter of the adapter's maximum length. Windows alone."""
    max_windows: int | None = None
    """Most rows that the texts may have together, windows times adapters; None sets no bound."""
    members: bool = False
    """Run each text through the members of its adapter as well: the modules of the mixture that it is the mean of."""

    def __post_init__(self) -> None:
        _check_counts(self.texts, self.adapters)
        check_overlap(self.overlap, windows=self.windows)


def check_overlap(overlap: int | None, *, windows: bool) -> None:
    """Raise an InputError for an overlap without windows, which nothing could use."""
    if overlap is not None and not windows:
        raise InputError(f"overlap is {overlap} without windows: set windows to true, or leave it out", "overlap")


@dataclass(frozen=True, kw_only=True)
class Chat:
    """Messages of a chat, which a model reads through its chat template, or in its own prompt."""

    messages: Sequence[Mapping[str, Any]]
    """Messages as templates take them: `role`, `content` (a text), and `tool_calls` with arguments as an object."""
    tools: Sequence[Mapping[str, Any]] = ()
    """Functions that the model may call, each with its JSON schema."""
    add_generation_prompt: bool = True
    """End with the beginning of an answer."""
    variables: Mapping[str, Any] = field(default_factory=dict)
    """Further variables of the template."""


PromptInput = str | Sequence[int] | Chat
"""An input of an adapter's task, the token ids of a whole prompt, or a chat."""


@dataclass(frozen=True, kw_only=True)
class GenerationRequest:
    """Prompts to continue, each through an adapter.

    Raises:
        InputError: There are not as many adapters as prompts.
    """

    prompts: Sequence[PromptInput]
    adapters: Sequence[str | None]
    """One name for each prompt; None selects the only adapter."""
    sampling: SamplingParams = GREEDY
    truncate: bool = False
    """Cut prompts that are too long, as in training; otherwise they are an InputError."""
    max_prompt_tokens: int | None = None
    """Cut prompts to so many tokens, however long they may be; None leaves them as they are."""
    priority: int = 0
    """Sequences of a lower number are begun before others that wait."""
    cache_salt: str = ""
    """KV states are shared only between requests of the same salt."""

    def __post_init__(self) -> None:
        _check_counts(self.prompts, self.adapters)


def adapter_names(adapter: str | Sequence[str | None] | None, count: int) -> Sequence[str | None]:
    """Return one adapter name for each of `count` texts, from one name for all or from one for each.

    Raises:
        InputError: There are more or fewer names than texts.
    """
    if adapter is None or isinstance(adapter, str):
        return [adapter] * count
    if len(adapter) != count:
        raise InputError(f"adapter names {len(adapter)} adapters for {count} texts: give one name, or one for each")
    return adapter


def _check_counts(texts: Sequence[Any], adapters: Sequence[str | None]) -> None:
    if len(texts) != len(adapters):
        raise InputError(f"{len(texts)} texts and {len(adapters)} adapters: name one adapter for each text")
