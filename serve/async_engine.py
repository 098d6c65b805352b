"""The base class of engines: what all engines over a loaded model do the same."""

import logging
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path
from types import TracebackType
from typing import Any, Self, cast

from tokenizers import Tokenizer

from serve.adapter_place import AdapterPlace
from serve.adapters.registry import Registry
from serve.bundle.adapter import AdapterCard
from serve.bundle.tokenizer_config import readable_config
from serve.engine import BundleEngine, Codec, EngineInfo, Event, Listener, ModelInfo, ResidentAdapters
from serve.errors import MAX_NAME, DeviceLost, UnknownAdapter, shortened
from serve.events import ONLY_FAILED, Stage, StageFinished
from serve.loaded_model import LoadedModel
from serve.request_context import current_request
from serve.runtime.text_codec import TextCodec
from serve.runtime.tokenization import TokenizerThreads
from serve.warm_up import warm_up

logger = logging.getLogger(__name__)


class AsyncEngine:
    """An engine for the tasks of one event loop; `async with` starts it and, at the end, drains it."""

    def __init__(self, model: LoadedModel, registry: Registry) -> None:
        self.loaded, self.registry = model, registry
        self.tokenizer_threads = TokenizerThreads()
        self.listeners: list[Listener] = []
        self.is_warming = False
        """It runs texts of its own, which it reports to nobody."""
        self.failure: str | None = None
        """Reason why nothing is answered any more; None while the device works."""

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.drain()

    async def start(self) -> None:
        """Begin to process requests."""
        raise NotImplementedError

    async def warm_up(self) -> None:
        """Run the shapes that traffic will have; listeners hear nothing of it."""
        self.is_warming = True
        try:
            await warm_up(cast(BundleEngine, self))
        finally:
            self.is_warming = False

    def prepare_to_drain(self) -> None:
        """End what would hold up a drain and has not begun to be answered; nothing in most engines."""

    async def drain(self) -> None:
        """Refuse new requests and return when all accepted ones are answered."""
        raise NotImplementedError

    def check_device(self) -> None:
        """Raise DeviceLost if the device is lost."""
        if self.failure is not None:
            raise DeviceLost(self.failure)

    @contextmanager
    def watch_device(self) -> Iterator[None]:
        """Refuse a request if the device is lost, and remember it if the request is what loses it.

        Raises:
            DeviceLost: The device is lost.
        """
        self.check_device()
        try:
            yield
        except DeviceLost as error:
            if self.failure is None:
                logger.critical("%s; requests are refused, and /health is 503", error)
            self.failure = str(error)
            raise

    @property
    def tokenizer(self) -> Tokenizer:
        """The bundle's tokenizer, which neither truncates nor pads."""
        raise NotImplementedError

    def models(self) -> list[ModelInfo]:
        """Return the adapters that are served."""
        return [self.describe(adapter.card) for adapter in self.registry.adapters.values()]

    def model(self, name: str) -> ModelInfo | None:
        """Return the adapter of this name, or None."""
        adapter = self.registry.adapters.get(name)
        return None if adapter is None else self.describe(adapter.card)

    def adapter_places(self) -> dict[str, AdapterPlace]:
        """Return where each adapter is, by name."""
        return self.registry.places()

    def describe(self, card: AdapterCard) -> ModelInfo:
        """Return the public facts of an adapter."""
        return self.loaded.model_info(card)

    def codec(self, name: str | None) -> Codec:
        """Return the bundle's tokenizer, with the maximum length of a model; see `Engine.codec`."""
        if name is None:
            longest = max((one.card.max_length for one in self.registry.adapters.values()), default=0)
        elif (found := self.model(name)) is not None:
            longest = found.max_length
        else:
            raise UnknownAdapter(f"there is no model {shortened(name, MAX_NAME)!r} here")
        return TextCodec(
            tokenizer=self.tokenizer, threads=self.tokenizer_threads, max_length=longest, config=self.tokenizer_config
        )

    @cached_property
    def tokenizer_config(self) -> dict[str, Any]:
        """Content of `tokenizer_config.json`, with special tokens as texts."""
        return readable_config(self.loaded.bundle)

    def serves(self, name: str) -> bool:
        """Return whether there is an adapter of this name."""
        return name in self.registry.adapters

    def parts(self) -> Sequence[BundleEngine]:
        """Return this engine, which has one bundle."""
        return [cast(BundleEngine, self)]

    def info(self) -> EngineInfo:
        """Return the facts of the bundle."""
        return self.loaded.info()

    def resident_adapters(self) -> ResidentAdapters:
        """Return the adapters by where their weights are."""
        return self.loaded.resident_adapters(self.registry.cards)

    def subscribe(self, listener: Listener) -> None:
        """Call `listener` with every event, in the event loop."""
        self.listeners.append(listener)

    def report(self, event: Event) -> None:
        """Pass an event to every listener."""
        for listener in () if self.is_warming else self.listeners:
            listener(event)

    @contextmanager
    def stage(self, stage: Stage) -> Iterator[None]:
        """Report the time that a stage of the current request takes, if anybody asks for its events."""
        request = current_request.get()
        if request is None or request.events is None:
            yield
            return
        start, error = time.monotonic(), None
        try:
            yield
        except BaseException as failure:
            error = type(failure).__name__
            raise
        finally:
            if error is not None or stage not in ONLY_FAILED:
                seconds = time.monotonic() - start
                self.report(
                    StageFinished(stage=stage, requests=[request], start_time=start, seconds=seconds, error=error)
                )

    def load(self, folder: Path, *, name: str | None = None, replace: bool = False) -> ModelInfo:
        """Add the standalone adapter in `folder`, as `Registry.load` describes."""
        return self.describe(self.registry.load(folder, name=name, replace=replace))

    def unload(self, name: str) -> None:
        """Remove an adapter, as `Registry.unload` describes."""
        self.registry.unload(name)
