"""Open ONNX Runtime sessions, and log the provider and the reason for it."""

import logging
from collections.abc import Sequence
from functools import partial
from pathlib import Path

import onnxruntime as ort

from serve.errors import BundleError, ProviderError, first_line
from serve.runtime.cuda_graphs import CAPTURING
from serve.runtime.graph_cache import cache_key, cached_session
from serve.runtime.providers import CPU, CUDA, ProviderChoice, usable_cores

logger = logging.getLogger(__name__)
DISABLED_OPTIMIZERS = {CPU: ["SkipLayerNormFusion"]}
"""Optimizers of ONNX Runtime that make a graph slower, by provider.

On the CPU, its fused addition and layer norm takes several times as long as the two operators (MiniLM, 32 rows of 32
tokens: 0.86 ms against 0.18)."""
ERRORS_ONLY = 3
FATAL_ONLY = 4
"""Log severities of ONNX Runtime."""


def open_session(
    model: Path,
    choice: ProviderChoice,
    *,
    threads: int | None = None,
    cache: Path | None = None,
    hashes: Sequence[str] = (),
) -> ort.InferenceSession:
    """Return a session for `model`, and log its provider.

    Args:
        model: ONNX file.
        choice: Execution provider to run on.
        threads: Threads of a run on the CPU; None takes all usable cores.
        cache: Folder for optimised graphs of the CPU provider; None keeps none.
        hashes: sha256 of the model's files, which name its entry in the cache.

    Raises:
        BundleError: ONNX Runtime cannot load the model.
        ProviderError: A required provider did not start.
    """
    make_options, open_graph = partial(_options, choice, threads), partial(_open_graph, choice)
    if choice.provider == CUDA:
        ort.preload_dlls()
    try:
        if cache is None or choice.provider != CPU:
            session = open_graph(model, make_options())
        else:
            key = cache_key(hashes, choice.provider, DISABLED_OPTIMIZERS.get(choice.provider, []))
            session = cached_session(model, cache, key, make_options, open_graph)
    except Exception as error:  # ONNX Runtime's exceptions share no base class
        raise BundleError(f"ONNX Runtime does not take {model}: {first_line(error)}") from error
    _report_provider(session, choice)
    return session


def captures_graphs(session: ort.InferenceSession) -> bool:
    """Return True if a session captures its runs as CUDA graphs."""
    options = session.get_provider_options().get(CUDA, {})
    return all(options.get(name) == value for name, value in CAPTURING.items())


def _options(choice: ProviderChoice, threads: int | None) -> ort.SessionOptions:
    options = ort.SessionOptions()
    options.intra_op_num_threads = threads or usable_cores()
    options.log_severity_level = ERRORS_ONLY if choice.provider == CPU else FATAL_ONLY
    return options


def _open_graph(choice: ProviderChoice, graph: Path, options: ort.SessionOptions) -> ort.InferenceSession:
    disabled = DISABLED_OPTIMIZERS.get(choice.provider, [])
    if choice.provider == CPU:
        return ort.InferenceSession(graph, options, providers=[CPU], disabled_optimizers=disabled)
    try:
        providers = [(choice.provider, CAPTURING), CPU]
        return ort.InferenceSession(graph, options, providers=providers, disabled_optimizers=disabled)
    except Exception as error:  # a graph with a node that does not run on the device cannot be captured
        logger.warning("%s is not captured in CUDA graphs: %s", graph.name, first_line(error))
        providers = [choice.provider, CPU]
        return ort.InferenceSession(graph, options, providers=providers, disabled_optimizers=disabled)


def _report_provider(session: ort.InferenceSession, choice: ProviderChoice) -> None:
    """Log the provider that a session runs on; raise a ProviderError if another one was required."""
    chosen = session.get_providers()[0]
    if chosen == choice.provider:
        logger.info("running on %s: %s", chosen, choice.reason)
    elif choice.required:
        raise ProviderError("CUDA was requested, but ONNX Runtime could not start it: are CUDA and cuDNN installed?")
    else:
        logger.warning("running on %s: %s (%s) did not start", chosen, choice.provider, choice.reason)
