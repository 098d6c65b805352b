"""Several engines as one: each has its bundle and its queue, and a request goes to the one that has its adapter."""

import asyncio
from collections.abc import AsyncGenerator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeVar, cast

from serve.adapters.base_adapter import BASE
from serve.engine import (
    BundleEngine,
    Capability,
    ClassificationEngine,
    Codec,
    Engine,
    EngineStats,
    GenerationEngine,
    Listener,
    ModelInfo,
    ResidentAdapters,
)
from serve.errors import MAX_NAME, BundleError, InputError, UnknownAdapter, shortened
from serve.generated_text import GenerationResult, StreamEvent
from serve.prediction import Prediction
from serve.requests import ClassificationRequest, GenerationRequest

COUNTS = (
    "waiting",
    "running",
    "adapters",
    "abandoned",
    "slots",
    "slot_writes",
    "host_adapters",
    "active_sequences",
    "tokens_in_flight",
    "max_tokens_in_flight",
)
"""Fields of the stats that are added up."""
MAX_LISTED = 20
"""Adapters that an error lists."""
EngineT = TypeVar("EngineT", bound=Engine)


class CombinedEngine:
    """Engines whose adapters have names of their own; the base of a generator is offered if there is one generator."""

    def __init__(self, engines: Sequence[BundleEngine]) -> None:
        """Combine engines.

        Raises:
            BundleError: Two of them have an adapter of the same name.
        """
        self.engines = list(engines)
        self.capabilities = frozenset().union(*(engine.capabilities for engine in self.engines))
        generators = sum(Capability.GENERATE in engine.capabilities for engine in self.engines)
        self.hidden = frozenset({BASE} if generators > 1 else ())
        """Names that several engines have and requests cannot select."""
        names: set[str] = set()
        for model in self.models():
            if model.name in names:
                raise BundleError(f"two bundles have an adapter called {model.name}: rename one when you export it")
            names.add(model.name)

    def parts(self) -> Sequence[BundleEngine]:
        """Return the engines."""
        return self.engines

    def models(self) -> list[ModelInfo]:
        """Return the adapters of all, and the base model where requests can select it."""
        return [
            model
            for engine in self.engines
            for model in engine.models()
            if not (model.is_base and model.name in self.hidden)
        ]

    def model(self, name: str) -> ModelInfo | None:
        """Return the adapter of this name, or None."""
        owner = self._owner(name)
        return None if owner is None else owner.model(name)

    def codec(self, name: str | None) -> Codec:
        """Return the tokenizer of the bundle that has an adapter; see `Engine.codec`."""
        return _owner_of(name, [one for one in self.engines if name not in self.hidden]).codec(name)

    def serves(self, name: str) -> bool:
        """Return whether one of them has an adapter."""
        return name not in self.hidden and any(engine.serves(name) for engine in self.engines)

    def stats(self) -> EngineStats:
        """Return the sums of the counts; one that drains or has failed decides for all."""
        stats = [engine.stats() for engine in self.engines]
        failures = [one.failure for one in stats if one.failure is not None]
        sums: dict[str, Any] = {name: _sum([getattr(one, name) for one in stats]) for name in COUNTS}
        return EngineStats(
            draining=any(one.draining for one in stats),
            failure=failures[0] if failures else None,
            running_adapters=frozenset[str]().union(*(one.running_adapters for one in stats)),
            waiting_adapters=frozenset[str]().union(*(one.waiting_adapters for one in stats)),
            **sums,
        )

    def resident_adapters(self) -> ResidentAdapters:
        """Return the adapters of all by where their weights are."""
        each = [engine.resident_adapters() for engine in self.engines]
        return ResidentAdapters(
            in_slots=[name for one in each for name in one.in_slots],
            in_host=[name for one in each for name in one.in_host],
        )

    def subscribe(self, listener: Listener) -> None:
        """Call `listener` with every event of all."""
        for engine in self.engines:
            engine.subscribe(listener)

    def load(self, folder: Path, *, name: str | None = None, replace: bool = False) -> ModelInfo:
        """Add the adapter in `folder` to the engine whose base it was made for.

        Raises:
            BundleError: It fits none of them, or its name is taken.
        """
        owner = None if name is None else self._owner(name)
        reasons: list[str] = []
        for engine in self.engines if owner is None else [owner]:
            try:
                loaded = engine.load(folder, name=name, replace=replace)
            except BundleError as error:
                reasons.append(str(error))
                continue
            if sum(one.serves(loaded.name) for one in self.engines) > 1:
                engine.unload(loaded.name)
                raise BundleError(f"another bundle has an adapter called {loaded.name}: rename one when you export it")
            return loaded
        raise BundleError("; ".join(dict.fromkeys(reasons)))

    def unload(self, name: str) -> None:
        """Remove an adapter.

        Raises:
            UnknownAdapter: None of them has it.
        """
        _owner_of(name, self.engines).unload(name)

    async def start(self) -> None:
        """Start them one after the other."""
        for engine in self.engines:
            await engine.start()

    async def warm_up(self) -> None:
        """Warm them up one after the other."""
        for engine in self.engines:
            await engine.warm_up()

    def prepare_to_drain(self) -> None:
        """End what would hold up a drain of each."""
        for engine in self.engines:
            engine.prepare_to_drain()

    async def drain(self) -> None:
        """Drain them side by side."""
        await asyncio.gather(*(engine.drain() for engine in self.engines))

    async def classify(self, request: ClassificationRequest) -> list[Prediction]:
        """Classify the texts of each engine's adapters side by side; if one of them fails, all do."""
        engines = [cast(ClassificationEngine, one) for one in self._capable(Capability.CLASSIFY)]
        owners = [_owner_of(name, engines) for name in request.adapters]
        places: dict[int, list[int]] = {}
        for place, owner in enumerate(owners):
            places.setdefault(engines.index(owner), []).append(place)
        if len(places) == 1:
            return await owners[0].classify(request)
        tasks = [asyncio.ensure_future(engines[index].classify(_part(request, own))) for index, own in places.items()]
        try:
            results = await asyncio.gather(*tasks)
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.wait(tasks)
        found = {
            place: result
            for own, part in zip(places.values(), results, strict=True)
            for place, result in zip(own, part, strict=True)
        }
        return [found[place] for place in range(len(owners))]

    async def generate(self, request: GenerationRequest) -> list[GenerationResult]:
        """Generate through the engine that has the request's adapters."""
        return await self._generator(request).generate(request)

    def stream(self, request: GenerationRequest) -> AsyncGenerator[StreamEvent, None]:
        """Stream through the engine that has the request's adapters."""
        return self._generator(request).stream(request)

    def _generator(self, request: GenerationRequest) -> GenerationEngine:
        engines = [cast(GenerationEngine, one) for one in self._capable(Capability.GENERATE)]
        if hidden := self.hidden.intersection(name for name in request.adapters if name):
            raise UnknownAdapter(f"several bundles have {min(hidden)!r}: serve one of them by itself to ask for it")
        owners = [_owner_of(name, engines) for name in request.adapters]
        if any(owner is not owners[0] for owner in owners):
            raise InputError(
                "the adapters of a request are of several bundles: ask for each bundle by itself", "adapter"
            )
        return owners[0]

    def _capable(self, capability: Capability) -> list[BundleEngine]:
        return [engine for engine in self.engines if capability in engine.capabilities]

    def _owner(self, name: str) -> BundleEngine | None:
        if name in self.hidden:
            return None
        return next((engine for engine in self.engines if engine.serves(name)), None)


def _owner_of(name: str | None, engines: Sequence[EngineT]) -> EngineT:
    """Return the engine that has an adapter; None selects the only engine, which then decides.

    Raises:
        UnknownAdapter: None of them has it.
        InputError: `name` is None and there are several.
    """
    if name is None and len(engines) == 1:
        return engines[0]
    found = next((engine for engine in engines if name is not None and engine.serves(name)), None)
    if found is not None:
        return found
    names = [model.name for engine in engines for model in engine.models() if not (model.member_of or model.is_base)]
    listed = ", ".join(names[:MAX_LISTED]) + (", …" if len(names) > MAX_LISTED else "")
    if name is None:
        raise InputError(f"name an adapter: {listed}", "adapter")
    raise UnknownAdapter(f"there is no adapter {shortened(name, MAX_NAME)!r} here that does this; there are {listed}")


def _part(request: ClassificationRequest, places: Sequence[int]) -> ClassificationRequest:
    """Return the texts of a request at some places."""
    return replace(
        request,
        texts=[request.texts[place] for place in places],
        adapters=[request.adapters[place] for place in places],
    )


def _sum(counts: Sequence[int | None]) -> int | None:
    """Return the sum of the counts that there are; None if there are none."""
    known = [count for count in counts if count is not None]
    return sum(known) if known else None
