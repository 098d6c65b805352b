"""The seam between engines and protocols.

An engine takes requests and returns results; a protocol (HTTP, metrics, a page) turns its clients' messages into
requests and results into messages. Of an engine, protocols import this module, `serve.events`, `serve.requests`,
`serve.prediction`, `serve.generated_text`, `serve.tokenized_text`, `serve.sampling_params` and `serve.errors` alone, so
that each new protocol and each new engine is one entry in a table.

    engine.classify(ClassificationRequest) -> list[Prediction]
    engine.generate(GenerationRequest)     -> list[GenerationResult]
    engine.stream(GenerationRequest)       -> StreamStart, TextDelta …, GenerationResult …
"""

import enum
from collections.abc import AsyncGenerator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from serve.events import BatchFinished as BatchFinished
from serve.events import Event as Event
from serve.events import Listener as Listener
from serve.events import SequenceFinished as SequenceFinished
from serve.generated_text import GenerationResult, StreamEvent
from serve.prediction import Prediction
from serve.requests import ClassificationRequest, GenerationRequest
from serve.tokenized_text import TokenizedText


class Capability(enum.StrEnum):
    """The kinds of requests that an engine may take."""

    CLASSIFY = "classify"
    GENERATE = "generate"


class ToolForm(enum.StrEnum):
    """The forms in which models call tools."""

    HERMES = "hermes"
    """`<tool_call>{"name": …, "arguments": …}</tool_call>`, any number of times."""
    LLAMA = "llama"
    """`{"name": …, "parameters": …}` alone."""


class ChatForm(enum.StrEnum):
    """The forms in which a model reads the messages of a chat."""

    TEMPLATE = "template"
    """The chat template of the base."""
    PROMPT = "prompt"
    """The prompt that an adapter was trained on, with the one message of the user in it."""


@dataclass(frozen=True, kw_only=True)
class ModelInfo:
    """One adapter that an engine serves, or the base model itself."""

    name: str
    sha256: str
    kind: str
    labels: Sequence[str]
    pairs: bool
    regression: bool
    max_length: int
    """Most tokens of an input, special tokens included."""
    metrics: Mapping[str, float]
    parity: Mapping[str, Any] | None
    """Comparison with PyTorch that ended the export; None for an adapter that was loaded later."""
    rank: int | None = None
    """Rank or bottleneck width; None for the base model."""
    num_modules: int | None = None
    """Modules of the mixture that was averaged into it; None for the base model."""
    module_distances: Sequence[float] = ()
    """Distance of each of these modules from their mean, as a share of its norm; empty if it was not measured."""
    record_fields: Sequence[str] = ()
    """Fields of the records that it writes texts from; empty for others."""
    is_base: bool = False
    """The base model rather than an adapter."""
    member_of: str = ""
    """Name of the adapter that this one is a module of; empty for an adapter that stands for itself."""
    prompt: str | None = None
    """Prompt of a model that generates; `{input}` stands for the client's text. None for a classifier."""
    chat: ChatForm | None = None
    """Form in which it reads the messages of a chat; None if it reads none."""
    tools: ToolForm | None = None
    """Form in which it calls tools; None if it calls none."""


@dataclass(frozen=True, kw_only=True)
class DeviceInfo:
    """A device beside the CPU."""

    name: str
    """Name of the model, such as NVIDIA H100 80GB HBM3."""
    memory_bytes: int
    """All of its memory."""


@dataclass(frozen=True, kw_only=True)
class EngineInfo:
    """Facts of the bundle that an engine serves; they do not change while it runs."""

    task: str
    shape: str
    precision: str
    provider: str
    device: DeviceInfo | None = None
    """Device that the provider runs on; None for the CPU."""
    slots: int | None
    """Adapters that fit on the device at a time; None for a merged bundle."""
    base: Mapping[str, str]
    versions: Mapping[str, str]
    graph: str | None = None
    """File of the graph that runs, in the bundle; None for an engine without one."""
    graph_bytes: int | None = None
    """Size of the graphs with the base's weights; None for an engine without them."""
    ensemble: bool = False
    """Predictions are the mean of an adapter's members rather than its own."""


@dataclass(frozen=True, kw_only=True)
class EngineStats:
    """Counts of one moment."""

    draining: bool = False
    """The engine takes no new requests."""
    failure: str | None = None
    """Reason why the engine answers nothing any more, such as a lost GPU; None while it works."""
    waiting: int = 0
    """Texts in the queue."""
    running: int = 0
    """Texts that are being processed: sequences with a row, or texts of the batches that run."""
    adapters: int = 0
    abandoned: int = 0
    """Accepted texts whose caller went away, or was cut off by the end of the server, before the result."""
    slots: int | None = None
    """Adapters that fit on the device at a time; None for a merged bundle."""
    slot_writes: int = 0
    """Adapters written into a slot since the start."""
    host_adapters: int = 0
    """Adapters with their weights in host memory."""
    active_sequences: int | None = None
    """KV-cache rows that generate, one for each beam; None for an engine that does not generate."""
    tokens_in_flight: int | None = None
    """KV-cache tokens that the active sequences may need."""
    max_tokens_in_flight: int | None = None
    """Most KV-cache tokens that they may need together."""
    running_adapters: frozenset[str] = frozenset()
    """Adapters of the active sequences."""
    waiting_adapters: frozenset[str] = frozenset()
    """Adapters of the texts in the queue."""

    @property
    def kv_cache_usage(self) -> float | None:
        """Share of the KV-cache tokens that is taken, 0 to 1; None for an engine that does not generate."""
        if self.tokens_in_flight is None or not self.max_tokens_in_flight:
            return None
        return self.tokens_in_flight / self.max_tokens_in_flight

    @property
    def healthy(self) -> bool:
        """True while the engine can answer requests."""
        return self.failure is None


@dataclass(frozen=True, kw_only=True)
class ResidentAdapters:
    """Adapters by where their weights are."""

    in_slots: Sequence[str] = ()
    """Adapters whose requests load nothing, those used last first: in slots, or all of a merged bundle."""
    in_host: Sequence[str] = ()
    """Adapters of a bank whose weights are in host memory."""


class Codec(Protocol):
    """The tokenizer of a model."""

    @property
    def max_length(self) -> int:
        """Most tokens of an input of the model."""

    @property
    def config(self) -> Mapping[str, Any]:
        """Content of `tokenizer_config.json`, with special tokens as texts."""

    async def tokenize(self, text: str, *, special_tokens: bool = True) -> TokenizedText:
        """Return the tokens of a text, which may be longer than the model reads.

        Raises:
            InputError: The text is far too long, or not valid Unicode.
        """

    async def detokenize(self, ids: Sequence[int], *, skip_special_tokens: bool = False) -> str:
        """Return the text of tokens.

        Raises:
            InputError: An id is not in the vocabulary.
        """


class Engine(Protocol):
    """The part that all engines have in common."""

    capabilities: frozenset[Capability]

    def models(self) -> list[ModelInfo]:
        """Return the adapters that are served, and the base model where requests can select it."""

    def model(self, name: str) -> ModelInfo | None:
        """Return what `models` has under a name, or None; callable from any thread."""

    def codec(self, name: str | None) -> Codec:
        """Return the tokenizer of a model; None is any model of an engine with one bundle.

        Raises:
            UnknownAdapter: No model has that name.
            InputError: `name` is None, and there are several bundles.
        """

    def serves(self, name: str) -> bool:
        """Return whether requests can name an adapter, or the base model; callable from any thread."""

    def parts(self) -> "Sequence[BundleEngine]":
        """Return the engines that this one consists of, one for each bundle; itself if it has one bundle."""

    def stats(self) -> EngineStats:
        """Return the counts of this moment; callable from any thread."""

    def resident_adapters(self) -> ResidentAdapters:
        """Return the adapters by where their weights are at this moment; callable from any thread."""

    def subscribe(self, listener: Listener) -> None:
        """Call `listener` with every event, in the event loop."""

    def load(self, folder: Path, *, name: str | None = None, replace: bool = False) -> ModelInfo:
        """Add the standalone adapter in `folder`; blocks while its canary rows run.

        Raises:
            BundleError: It is damaged, does not fit, is not called `name`, or its name is taken and `replace` is off.
        """

    def unload(self, name: str) -> None:
        """Remove an adapter; requests that arrived before still get it.

        Raises:
            UnknownAdapter: No adapter has that name.
        """

    async def start(self) -> None:
        """Begin to process requests."""

    async def warm_up(self) -> None:
        """Run the shapes that traffic will have, once it has started; listeners hear nothing of it."""

    def prepare_to_drain(self) -> None:
        """End what would hold up a drain; called when the server begins to stop, before `drain`."""

    async def drain(self) -> None:
        """Refuse new requests and return when all accepted ones are answered."""


class BundleEngine(Engine, Protocol):
    """An engine with one bundle."""

    def info(self) -> EngineInfo:
        """Return the facts of the bundle."""


class ClassificationEngine(Engine, Protocol):
    """An engine that classifies."""

    async def classify(self, request: ClassificationRequest) -> list[Prediction]:
        """Return one prediction for each text, in order.

        Raises:
            ServeError: One of InputError, UnknownAdapter, Overloaded, DeadlineExceeded, ClassificationFailed,
                DeviceLost, ShuttingDown.
        """


class GenerationEngine(Engine, Protocol):
    """An engine that generates text."""

    async def generate(self, request: GenerationRequest) -> list[GenerationResult]:
        """Return `sampling.n` results for each prompt, in order. Cancelling the call cancels its sequences.

        Raises:
            ServeError: One of InputError, UnknownAdapter, Overloaded, DeadlineExceeded, GenerationFailed, DeviceLost,
                ShuttingDown.
        """

    def stream(self, request: GenerationRequest) -> AsyncGenerator[StreamEvent, None]:
        """Stream the texts of a request. Closing the generator cancels its sequences.

        Raises:
            ServeError: As `generate`; that of a refused request before the first event.
        """
