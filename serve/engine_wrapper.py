"""The base class of engines that stand around another one and change a part of what it does."""

from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import aclosing
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


class EngineWrapper:
    """An engine that does what another one does; see `Engine`."""

    def __init__(self, engine: Engine) -> None:
        """Stand around an engine."""
        self.engine = engine
        self.capabilities = engine.capabilities

    async def classify(self, request: ClassificationRequest) -> list[Prediction]:
        """Classify, as the engine does."""
        return await cast(ClassificationEngine, self.engine).classify(request)

    async def generate(self, request: GenerationRequest) -> list[GenerationResult]:
        """Generate, as the engine does."""
        return await cast(GenerationEngine, self.engine).generate(request)

    async def stream(self, request: GenerationRequest) -> AsyncGenerator[StreamEvent, None]:
        """Stream, as the engine does."""
        async with aclosing(cast(GenerationEngine, self.engine).stream(request)) as events:
            async for event in events:
                yield event

    def adapter_places(self) -> Mapping[str, AdapterPlace]:
        """Return the places of the engine's adapters, as far as it knows them."""
        return self.engine.adapter_places() if isinstance(self.engine, HasAdapterPlaces) else {}

    def models(self) -> list[ModelInfo]:
        """Return the models of the engine."""
        return self.engine.models()

    def model(self, name: str) -> ModelInfo | None:
        """Return a model of the engine."""
        return self.engine.model(name)

    def codec(self, name: str | None) -> Codec:
        """Return the tokenizer of a model."""
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
        """Load an adapter, as the engine does."""
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
