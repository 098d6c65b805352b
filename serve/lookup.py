"""Adapters that requests name are loaded on first use: an engine around an engine.

A protocol that has to know a model before it asks the engine for a result calls `look_up` first.
"""

import asyncio
from collections import Counter, OrderedDict
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Collection, Iterable, Mapping, Sequence
from contextlib import aclosing, asynccontextmanager
from pathlib import Path
from typing import cast

from serve.adapter_place import AdapterPlace, HasAdapterPlaces
from serve.engine import (
    BundleEngine,
    ClassificationEngine,
    Codec,
    Engine,
    EngineStats,
    GenerationEngine,
    Listener,
    ModelInfo,
    ResidentAdapters,
)
from serve.generated_text import GenerationResult, StreamEvent
from serve.prediction import Prediction
from serve.requests import ClassificationRequest, GenerationRequest

MOST_ADAPTERS = 64
"""Adapters that a lookup keeps."""
ROUNDS = 3
"""Rounds of loading what a request names: meanwhile another request may have taken an adapter's room."""


async def look_up(engine: Engine, *names: str | None) -> None:
    """Load the adapters of these names that are not served, if the engine loads adapters on first use.

    Raises:
        AdapterFailed: One is there and is refused.
    """
    if isinstance(engine, LookupEngine):
        await engine.look_up(names)


class LookupEngine:
    """An engine that loads adapters on first use, and unloads those of them that were not used for longest."""

    def __init__(
        self,
        engine: Engine,
        *,
        load: Callable[[str], bool],
        unload: Callable[[str], None],
        most: int = MOST_ADAPTERS,
        pins: Collection[str] = (),
    ) -> None:
        """Stand around an engine.

        Args:
            engine: The engine that answers.
            load: Loads an adapter by name, blocking, and returns False if there is none; called one at a time.
            unload: Unloads one that `load` loaded, if it is still there.
            most: Adapters loaded by lookup that are kept, beside those that requests use at the moment.
            pins: Names of those that are never unloaded.
        """
        self.engine, self.load_named, self.unload_named, self.most, self.pins = engine, load, unload, most, pins
        self.capabilities = engine.capabilities
        self.used: OrderedDict[str, None] = OrderedDict()
        """Adapters loaded by lookup, those used least recently first."""
        self.in_use: Counter[str] = Counter()
        """Requests that name an adapter at the moment."""
        self.turn = asyncio.Lock()
        """Held while an adapter is loaded: a thread for each would be taken from others."""
        self.loads: dict[str, asyncio.Task[bool]] = {}
        """Loads under way: many requests wait for one."""
        self.evicting: asyncio.Task[None] | None = None

    async def look_up(self, names: Iterable[str | None]) -> None:
        """Load those of these names that are not served and lie in the folder of adapters."""
        wanted = [name for name in dict.fromkeys(names) if name is not None]
        for _ in range(ROUNDS):
            missing = [name for name in wanted if not self.engine.serves(name)]
            if not missing or not any([await self._load(name) for name in missing]):
                break
        for name in wanted:
            if name in self.used:
                self.used.move_to_end(name)
        self._begin_to_evict()

    async def classify(self, request: ClassificationRequest) -> list[Prediction]:
        """Classify, as the engine does."""
        async with self._using(request.adapters):
            return await cast(ClassificationEngine, self.engine).classify(request)

    async def generate(self, request: GenerationRequest) -> list[GenerationResult]:
        """Generate, as the engine does."""
        async with self._using(request.adapters):
            return await cast(GenerationEngine, self.engine).generate(request)

    async def stream(self, request: GenerationRequest) -> AsyncGenerator[StreamEvent, None]:
        """Stream, as the engine does."""
        async with (
            self._using(request.adapters),
            aclosing(cast(GenerationEngine, self.engine).stream(request)) as events,
        ):
            async for event in events:
                yield event

    def adapter_places(self) -> Mapping[str, AdapterPlace]:
        """Return the places of the engine's adapters, as far as it knows them."""
        return self.engine.adapter_places() if isinstance(self.engine, HasAdapterPlaces) else {}

    def models(self) -> list[ModelInfo]:
        """Return the models of the engine, those that are loaded."""
        return self.engine.models()

    def model(self, name: str) -> ModelInfo | None:
        """Return a model of the engine."""
        return self.engine.model(name)

    def codec(self, name: str | None) -> Codec:
        """Return the tokenizer of a model that is loaded."""
        return self.engine.codec(name)

    def serves(self, name: str) -> bool:
        """Return whether a model is loaded."""
        return self.engine.serves(name)

    def parts(self) -> Sequence[BundleEngine]:
        """Return the engine's parts."""
        return self.engine.parts()

    def stats(self) -> EngineStats:
        """Return the engine's counts."""
        return self.engine.stats()

    def resident_adapters(self) -> ResidentAdapters:
        """Return the engine's adapters by where their weights are."""
        return self.engine.resident_adapters()

    def subscribe(self, listener: Listener) -> None:
        """Call `listener` with the engine's events."""
        self.engine.subscribe(listener)

    def load(self, folder: Path, *, name: str | None = None, replace: bool = False) -> ModelInfo:
        """Load an adapter, as the engine does; the lookup does not unload it."""
        return self.engine.load(folder, name=name, replace=replace)

    def unload(self, name: str) -> None:
        """Unload an adapter, as the engine does."""
        self.engine.unload(name)

    async def start(self) -> None:
        """Start the engine."""
        await self.engine.start()

    async def warm_up(self) -> None:
        """Warm the engine up."""
        await self.engine.warm_up()

    def prepare_to_drain(self) -> None:
        """Prepare the engine."""
        self.engine.prepare_to_drain()

    async def drain(self) -> None:
        """Drain the engine."""
        await self.engine.drain()

    @asynccontextmanager
    async def _using(self, names: Sequence[str | None]) -> AsyncIterator[None]:
        """Look adapters up, and keep them until the block ends."""
        wanted = Counter({name for name in names if name is not None})
        self.in_use += wanted
        try:
            await self.look_up(names)
            yield
        finally:
            self.in_use -= wanted
            self._begin_to_evict()

    async def _load(self, name: str) -> bool:
        """Load an adapter, or wait for the load that is under way; that goes on if this request is cancelled."""
        task = self.loads.get(name)
        if task is None:
            task = self.loads[name] = asyncio.create_task(self._load_alone(name))
            task.add_done_callback(lambda done: self._ended(name, done))
        await asyncio.wait([task])
        return task.result()

    async def _load_alone(self, name: str) -> bool:
        async with self.turn:
            if not await asyncio.to_thread(self.load_named, name):
                return False
        self.used[name] = None
        return True

    def _ended(self, name: str, task: "asyncio.Task[bool]") -> None:
        self.loads.pop(name, None)
        if not task.cancelled():
            task.exception()  # which those who wait for it raise; perhaps nobody does any more

    def _begin_to_evict(self) -> None:
        if len(self.used) > self.most and (self.evicting is None or self.evicting.done()):
            self.evicting = asyncio.create_task(self._evict())

    async def _evict(self) -> None:
        """Unload adapters, those used least recently first, until no more than `most` are left."""
        for name in list(self.used):
            if len(self.used) <= self.most:
                break
            if name not in self.in_use and name not in self.pins:
                del self.used[name]
                await asyncio.to_thread(self.unload_named, name)
