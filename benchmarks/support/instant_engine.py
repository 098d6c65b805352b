"""An engine that answers at once, behind the servers of adamix-serve: `python -m benchmarks.support.instant_engine …`.

Arguments: PORT [GRPC_PORT]. What such a server takes is the time of its protocols. It classifies through the model
`tone` and generates through `writer`, as many tokens as are asked for.
"""

import asyncio
import sys
from collections.abc import AsyncGenerator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import uvicorn
import uvloop

from serve.engine import Capability, Codec, EngineInfo, EngineStats, Listener, ModelInfo, ResidentAdapters
from serve.errors import BundleError, UnknownAdapter
from serve.generated_text import FinishReason, GenerationResult, StreamEvent, StreamStart, TextDelta
from serve.grpc.server import GrpcServer
from serve.http.app import make_app
from serve.prediction import Prediction
from serve.requests import ClassificationRequest, GenerationRequest

SHA256 = "0" * 64
LABELS = ("negative", "positive")
CLASSIFIER, WRITER = "tone", "writer"
LIMIT, PAYLOAD_LIMIT = 64, 2_000_000
"""Those of adamix-serve."""


class InstantEngine:
    """Answers with the same prediction, and with texts of one letter a token."""

    capabilities = frozenset(Capability)

    def __init__(self) -> None:
        self.prediction = Prediction(CLASSIFIER, SHA256, LABELS, np.array([-1.0, 1.0], np.float32))

    def models(self) -> list[ModelInfo]:
        """Return both models."""
        return [_model(CLASSIFIER, LABELS), _model(WRITER, ())]

    def model(self, name: str) -> ModelInfo | None:
        """Return a model, or None."""
        return next((one for one in self.models() if one.name == name), None)

    def codec(self, name: str | None) -> Codec:
        """Raise an error: there is no tokenizer."""
        raise UnknownAdapter("no model here has a tokenizer")

    def serves(self, name: str) -> bool:
        """Return whether a model has that name."""
        return name in (CLASSIFIER, WRITER)

    def parts(self) -> list["InstantEngine"]:
        """Return the engine itself."""
        return [self]

    def info(self) -> EngineInfo:
        """Return facts of no bundle."""
        base = {"name": "none", "sha256": SHA256}
        return EngineInfo(
            task="none", shape="none", precision="fp32", provider="none", slots=None, base=base, versions={}
        )

    def stats(self) -> EngineStats:
        """Return counts of an idle engine."""
        return EngineStats(adapters=2)

    def resident_adapters(self) -> ResidentAdapters:
        """Return no adapters: there are no weights."""
        return ResidentAdapters()

    def subscribe(self, listener: Listener) -> None:
        """Ignore the listener: there are no events."""

    def load(self, folder: Path, *, name: str | None = None, replace: bool = False) -> ModelInfo:
        """Raise an error: nothing is loaded."""
        raise BundleError("no adapter is loaded here")

    def unload(self, name: str) -> None:
        """Raise an error: nothing is unloaded."""
        raise BundleError("no adapter is unloaded here")

    async def start(self) -> None:
        """Do nothing."""

    async def warm_up(self) -> None:
        """Do nothing."""

    def prepare_to_drain(self) -> None:
        """Do nothing."""

    async def drain(self) -> None:
        """Do nothing."""

    async def classify(self, request: ClassificationRequest) -> list[Prediction]:
        """Return one prediction for each text."""
        return [self.prediction] * len(request.texts)

    async def generate(self, request: GenerationRequest) -> list[GenerationResult]:
        """Return one text for each prompt."""
        return [_result(request, index) for index in range(len(request.prompts))]

    async def stream(self, request: GenerationRequest) -> AsyncGenerator[StreamEvent, None]:
        """Yield a text token by token; the event loop turns between two, as it does with an engine in a thread."""
        result = _result(request, 0)
        yield StreamStart(WRITER, SHA256, result.prompt_tokens, ["a prompt"], [[1]])
        for token in result.tokens:
            await asyncio.sleep(0)
            yield TextDelta("a", 0, (token,))
        yield result


def _model(name: str, labels: Sequence[str]) -> ModelInfo:
    return ModelInfo(
        name=name,
        sha256=SHA256,
        kind="lora",
        labels=labels,
        pairs=False,
        regression=False,
        max_length=128,
        metrics={},
        parity=None,
    )


def _result(request: GenerationRequest, index: int) -> GenerationResult:
    count = request.sampling.max_new_tokens or 64
    return GenerationResult(WRITER, SHA256, "a" * count, [1] * count, FinishReason.LENGTH, 8, index=index)


async def serve(port: int, grpc_port: int | None) -> None:
    """Serve until the process is stopped, with adamix-serve's settings."""
    engine: Any = InstantEngine()
    app = make_app(engine, max_client_batch_size=LIMIT, payload_limit=PAYLOAD_LIMIT)
    grpc = GrpcServer(engine, "127.0.0.1", grpc_port or 0, limit=LIMIT, payload_limit=PAYLOAD_LIMIT)
    await grpc.start()
    config = uvicorn.Config(
        app, port=port, log_level="warning", access_log=False, proxy_headers=False, timeout_keep_alive=75
    )
    await uvicorn.Server(config).serve()
    await grpc.stop(0)


if __name__ == "__main__":
    port, *others = (int(word) for word in sys.argv[1:])
    uvloop.run(serve(port, others[0] if others else None))
