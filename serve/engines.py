"""Engines by task: from a bundle and plain options to an engine, for the command line and for other programs."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Any, Unpack

from serve.bundle.reader import Bundle, open_bundle
from serve.classification.async_classifier import AsyncClassifier
from serve.classification.classifier import Classifier
from serve.combined_engine import CombinedEngine
from serve.engine import BundleEngine, Engine
from serve.errors import BundleError
from serve.generation.async_text_generator import AsyncTextGenerator
from serve.generation.generator import Generator
from serve.limits import BatchLimits, GenerationLimits
from serve.loaded_model import LoadOptions
from serve.runtime.providers import usable_cores

Limits = Mapping[str, Any]


@dataclass(frozen=True, kw_only=True)
class EngineKind:
    """How the engine of a task is made."""

    make: Callable[[Bundle, Limits, LoadOptions], BundleEngine]
    """Takes a bundle, the limits that were given, and the options to open it with."""
    limits: frozenset[str] = field(default_factory=frozenset)
    """Names of the limits that the engine knows."""


def make_engine(
    bundle: Bundle | Path | str, limits: Limits = MappingProxyType({}), **options: Unpack[LoadOptions]
) -> BundleEngine:
    """Return the engine for a bundle's task.

    Args:
        bundle: A bundle or its folder.
        limits: Fields of `BatchLimits` or `GenerationLimits`, and `streams` and `ensemble` of a classifier; None takes
            the default.
        options: Keyword arguments of `LoadedModel`: provider, threads, slots, host_adapters, cache, pins.

    Raises:
        BundleError: The bundle is damaged, no engine has its task, or its engine has no limit of that name.
    """
    opened = bundle if isinstance(bundle, Bundle) else open_bundle(Path(bundle))
    task = opened.manifest.task
    if task not in ENGINES:
        raise BundleError(f"{opened.folder} has the task {task!r}; adamix-serve has {', '.join(ENGINES)}")
    given = {name: value for name, value in limits.items() if value is not None}
    kind = ENGINES[task]
    if unknown := sorted(given.keys() - kind.limits):
        flag = unknown[0].replace("_", "-")
        raise BundleError(f"--{flag} means nothing for {opened.folder}, whose task is {task}")
    return kind.make(opened, given, options)


def make_engines(
    bundles: Sequence[Bundle], limits: Limits = MappingProxyType({}), **options: Unpack[LoadOptions]
) -> Engine:
    """Return one engine for several bundles, each of which has a queue of its own and its share of the threads.

    Args:
        bundles: At least one.
        limits: As for `make_engine`; each engine gets those that it knows.
        options: Likewise; `threads` are those of each engine (default: the usable cores, shared out).

    Raises:
        BundleError: A bundle is refused, no engine knows a limit, or two bundles have an adapter of the same name.
    """
    if len(bundles) == 1:
        return make_engine(bundles[0], limits, **options)
    given = {name: value for name, value in limits.items() if value is not None}
    known = [ENGINES[one.manifest.task].limits if one.manifest.task in ENGINES else frozenset() for one in bundles]
    if unknown := sorted(given.keys() - frozenset().union(*known)):
        raise BundleError(f"--{unknown[0].replace('_', '-')} means nothing for any of these bundles")
    if options.get("threads") is None:
        options["threads"] = max(1, usable_cores() // len(bundles))
    return CombinedEngine(
        [
            make_engine(bundle, {name: value for name, value in given.items() if name in names}, **options)
            for bundle, names in zip(bundles, known, strict=True)
        ]
    )


def _classifier(bundle: Bundle, limits: Limits, options: LoadOptions) -> AsyncClassifier:
    bounds = dict(limits)
    streams = bounds.pop("streams", None) or options.get("threads") or usable_cores()
    tokens, ensemble = bounds.pop("max_batch_tokens", None), bounds.pop("ensemble", False)
    classifier = Classifier(bundle, batch_tokens=tokens, streams=streams, ensemble=ensemble, **options)
    return AsyncClassifier(classifier, BatchLimits(max_batch_tokens=classifier.batch_tokens, **bounds))


def _generator(bundle: Bundle, limits: Limits, options: LoadOptions) -> AsyncTextGenerator:
    return AsyncTextGenerator(Generator(bundle, limits=GenerationLimits(**limits), **options))


_GENERATION = EngineKind(make=_generator, limits=frozenset(GenerationLimits.__dataclass_fields__))
ENGINES: dict[str, EngineKind] = {
    "text-classification": EngineKind(
        make=_classifier, limits=frozenset({"streams", "ensemble", *BatchLimits.__dataclass_fields__})
    ),
    "text-generation": _GENERATION,
    "text2text-generation": _GENERATION,
}
"""Engines by the task of their bundles; a new one is an entry here."""
