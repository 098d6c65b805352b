"""Adapters that requests name are loaded on first use: an engine around an engine.

A protocol that has to know a model before it asks the engine for a result calls `look_up` first.
"""

import asyncio
from collections import Counter
from collections.abc import AsyncGenerator, AsyncIterator, Iterable, Sequence
from contextlib import aclosing, asynccontextmanager
from typing import Protocol

from serve.engine import Engine
from serve.engine_wrapper import EngineWrapper
from serve.generated_text import GenerationResult, StreamEvent
from serve.lookup_uses import LookupUses
from serve.prediction import Prediction
from serve.requests import ClassificationRequest, GenerationRequest

MOST_ADAPTERS = 64
"""Adapters that a lookup keeps."""
ROUNDS = 3
"""Rounds of loading what a request names: meanwhile another request may have taken an adapter's room."""
RETRY_SECONDS = 1.0
"""Time after which adapters that another process uses are tried to be unloaded again."""


class LookupRoom(Protocol):
    """The adapters that lookups have loaded, whose number has a bound."""

    uses: LookupUses
    """Uses of adapters by requests of this process."""

    def load(self, name: str) -> bool:
        """Load an adapter, blocking, and return False if there is none; called one at a time.

        Raises:
            AdapterFailed: It is there and is refused.
        """

    def make(self) -> bool:
        """Unload adapters beyond the bound, blocking; return False if they are in use."""


async def look_up(engine: Engine, *names: str | None) -> None:
    """Load the adapters of these names that are not served, if the engine loads adapters on first use.

    Raises:
        AdapterFailed: One is there and is refused.
    """
    if isinstance(engine, LookupEngine):
        await engine.look_up(names)


class LookupEngine(EngineWrapper):
    """An engine that loads adapters on first use, and unloads those of them that were not used for longest."""

    def __init__(self, engine: Engine, room: LookupRoom) -> None:
        """Stand around an engine, in which `room` loads and unloads."""
        super().__init__(engine)
        self.room, self.uses = room, room.uses
        self.turn = asyncio.Lock()
        """Held while an adapter is loaded: a thread for each would be taken from others."""
        self.loads: dict[str, asyncio.Task[bool]] = {}
        """Loads under way: many requests wait for one."""
        self.evicting: asyncio.Task[None] | None = None
        self.may_be_full = True
        """There may be more adapters than are kept, such as those of a worker that died."""

    async def look_up(self, names: Iterable[str | None]) -> None:
        """Load those of these names that are not served and lie in the folder of adapters."""
        wanted = [name for name in dict.fromkeys(names) if name is not None]
        for _ in range(ROUNDS):
            missing = [name for name in wanted if not self.engine.serves(name) or self.uses.is_leaving(name)]
            if not missing or not any([await self._load(name) for name in missing]):
                break
        self.uses.note([name for name in wanted if self.engine.serves(name)])
        self._begin_to_evict()

    async def classify(self, request: ClassificationRequest) -> list[Prediction]:
        """Classify, as the engine does."""
        async with self._using(request.adapters):
            return await super().classify(request)

    async def generate(self, request: GenerationRequest) -> list[GenerationResult]:
        """Generate, as the engine does."""
        async with self._using(request.adapters):
            return await super().generate(request)

    async def stream(self, request: GenerationRequest) -> AsyncGenerator[StreamEvent, None]:
        """Stream, as the engine does."""
        async with self._using(request.adapters), aclosing(super().stream(request)) as events:
            async for event in events:
                yield event

    @asynccontextmanager
    async def _using(self, names: Sequence[str | None]) -> AsyncIterator[None]:
        """Look adapters up, and keep them until the block ends."""
        wanted = Counter({name for name in names if name is not None})
        self.uses.begin(wanted)
        try:
            await self.look_up(names)
            yield
        finally:
            self.uses.end(wanted)
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
            if not await asyncio.to_thread(self.room.load, name):
                return False
        self.may_be_full = True
        return True

    def _ended(self, name: str, task: "asyncio.Task[bool]") -> None:
        self.loads.pop(name, None)
        if not task.cancelled():
            task.exception()  # which those who wait for it raise; perhaps nobody does any more

    def _begin_to_evict(self) -> None:
        if self.may_be_full and (self.evicting is None or self.evicting.done()):
            self.evicting = asyncio.create_task(self._evict())

    async def _evict(self) -> None:
        """Unload adapters beyond the bound; those in use when they are not any more."""
        self.may_be_full = False
        if not await asyncio.to_thread(self.room.make):
            self.may_be_full = True
            asyncio.get_running_loop().call_later(RETRY_SECONDS, self._begin_to_evict)
