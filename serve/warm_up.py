"""Warm-up: requests in the shapes that traffic will have.

The first run of a shape takes longer than later ones: memory is laid out, threads start, CUDA captures its graph.
Opening a bundle runs its canary rows, which are few and short; these requests go the way of a client's, through
tokenizer, queue and batches.
"""

import logging
import time
from collections.abc import Sequence
from typing import cast

from serve.engine import BundleEngine, Capability, ClassificationEngine, GenerationEngine, ModelInfo
from serve.errors import DeviceLost, InputError, Overloaded, ServeError
from serve.requests import ClassificationRequest, GenerationRequest, Text
from serve.sampling_params import SamplingParams

logger = logging.getLogger(__name__)
ROWS = (1, 2, 4, 8, 16, 32, 64)
LENGTHS = (16, 32, 64, 128)
MAX_TOKENS = 1024
"""Padded tokens of a batch of several rows."""
CPU_SHAPES = ((1, 16), (1, 64), (8, 16), (64, 16))
"""Shapes of a classifier on the CPU as (rows, tokens of a row).

The last one is more than a batch holds: batches run side by side."""
GENERATING_SHAPES = ((1, 16), (8, 16), (1, 128))
"""Shapes of a decoder on the CPU. More of them took ten seconds of a core until SmolLM2 was ready, and spared the first
request of a new shape half of one."""
DEVICE_SHAPES = tuple((rows, tokens) for tokens in LENGTHS for rows in ROWS if rows * tokens <= MAX_TOKENS)
"""Shapes on a device, those of the runs that CUDA captures."""
MAX_LENGTH = 512
"""Tokens of the longest row."""
LIMIT_SECONDS = 30.0
"""Time after which no other shape is begun."""
GENERATED = SamplingParams(max_new_tokens=4, ignore_eos=True)
WORD = "a "


async def warm_up(engine: BundleEngine) -> None:
    """Run requests through one adapter; the adapters of a bank share all shapes.

    Where a shape is more than a request may have, as with a short queue, it has fewer rows, or fewer tokens.

    Raises:
        DeviceLost: The device failed.
    """
    started = time.monotonic()
    model = next((model for model in engine.models() if not model.member_of), None)
    if model is None:
        return
    ran: set[tuple[int, int]] = set()
    for shape in _shapes(engine, model):
        if time.monotonic() - started > LIMIT_SECONDS:
            break
        await _run(engine, model, *shape, ran)
    logger.info("warmed up in %.1f s", time.monotonic() - started)


def _shapes(engine: BundleEngine, model: ModelInfo) -> Sequence[tuple[int, int]]:
    """Return the shapes of an engine's traffic."""
    on_host = engine.info().device is None
    if on_host and Capability.GENERATE in engine.capabilities:
        return GENERATING_SHAPES
    return (*(CPU_SHAPES if on_host else DEVICE_SHAPES), (1, min(model.max_length, MAX_LENGTH)))


async def _run(engine: BundleEngine, model: ModelInfo, rows: int, tokens: int, ran: set[tuple[int, int]]) -> None:
    """Run a shape, or the largest below it that is taken, unless that has been run for the sake of a larger one."""
    most = rows
    while True:
        if most != rows and (rows, tokens) in ran:
            return
        try:
            await _request(engine, model, rows, tokens)
        except DeviceLost:
            raise
        except (InputError, Overloaded) as error:
            if rows == tokens == 1:
                logger.warning("no warm-up: a text of one token is refused: %s", error)
                return
            rows, tokens = (rows // 2, tokens) if rows > 1 else (1, tokens // 2)
        except ServeError as error:
            logger.warning("no warm-up with %d rows of %d tokens: %s", rows, tokens, error)
            return
        else:
            ran.add((rows, tokens))
            return


async def _request(engine: BundleEngine, model: ModelInfo, rows: int, tokens: int) -> None:
    """Run texts of about so many tokens, and of no more than the model reads."""
    text = WORD * min(tokens, model.max_length)
    if Capability.CLASSIFY in engine.capabilities:
        texts: list[Text] = [(text, WORD) if model.pairs else text] * rows
        classifying = ClassificationRequest(texts=texts, adapters=[model.name] * rows, truncate=True)
        await cast(ClassificationEngine, engine).classify(classifying)
    if Capability.GENERATE in engine.capabilities:
        generating = GenerationRequest(
            prompts=[text] * rows, adapters=[model.name] * rows, sampling=GENERATED, truncate=True
        )
        await cast(GenerationEngine, engine).generate(generating)
