"""Texts from a generator: a request of the engine from prompts and parameters, with errors in the client's words."""

from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import aclosing
from typing import Any

from serve.engine import GenerationEngine
from serve.errors import InputError
from serve.generated_text import GenerationResult, StreamEvent
from serve.oip.models import TEXT_INPUT, Model, check_adapter, check_version
from serve.oip.parameters import client_words, generation_options
from serve.requests import GenerationRequest
from serve.sampling_params import CLIENT_NAMES

FIELD_NAMES = {
    **CLIENT_NAMES,
    "adapter": "model",
    "prompts": TEXT_INPUT,
    "max_prompt_tokens": "truncate_prompt_tokens",
}
"""Names that clients have for the engine's fields."""


def generation_request(
    model: Model, prompts: Sequence[str], parameters: Mapping[str, Any], *, limit: int
) -> GenerationRequest:
    """Return the engine's request for some prompts.

    Raises:
        InputError: The model does not generate, a parameter is wrong, or more than `limit` texts are asked for.
    """
    if not model.generates:
        raise InputError(f"model {model.name!r} classifies texts: send them to /v2/models/{model.name}/infer")
    options = generation_options(parameters)
    check_adapter(model, options.adapter)
    if len(prompts) * options.sampling.n > limit:
        asked = f"{len(prompts)} prompts with n {options.sampling.n}"
        raise InputError(f"{asked}: at most {limit} texts go into one request")
    return GenerationRequest(
        prompts=prompts, adapters=[model.name] * len(prompts), sampling=options.sampling, **options.request
    )


async def generate_texts(
    engine: GenerationEngine, model: Model, asked: GenerationRequest, *, version: str | None
) -> list[GenerationResult]:
    """Return the texts of a request.

    Raises:
        UnknownAdapter: The weights were replaced meanwhile by another version.
        The errors of `engine.generate`.
    """
    with client_words(FIELD_NAMES):
        results = await engine.generate(asked)
    check_version(model, results[0].sha256, version)
    return results


async def stream_text(
    engine: GenerationEngine, model: Model, asked: GenerationRequest, *, version: str | None
) -> AsyncGenerator[StreamEvent, None]:
    """Stream one text. Closing the generator cancels it.

    Raises:
        InputError: The request is for several texts.
        The errors of `generate_texts`.
    """
    check_single(asked)
    with client_words(FIELD_NAMES):
        async with aclosing(engine.stream(asked)) as events:
            start = await anext(events)
            check_version(model, start.sha256, version)  # type: ignore[union-attr]
            yield start
            async for event in events:
                yield event


def check_single(asked: GenerationRequest) -> None:
    """Raise an InputError if a request is for several texts, where the answer has room for one."""
    if len(asked.prompts) > 1 or asked.sampling.n > 1:
        number = f"n is {asked.sampling.n}" if asked.sampling.n > 1 else f"there are {len(asked.prompts)} prompts"
        raise InputError(f"{number}: ask for one text here, and for several through infer")
