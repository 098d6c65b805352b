"""Open ONNX Runtime sessions on the best provider there is, and say which and why."""

import logging
from collections.abc import Sequence
from pathlib import Path

import onnxruntime as ort

from serve.errors import BundleError, ProviderError
from serve.runtime.graph_cache import cached_session, key_of
from serve.runtime.providers import CPU, CUDA, Choice, cores

logger = logging.getLogger(__name__)
SLOWER = {CPU: ["SkipLayerNormFusion"]}
"""Fusions of ONNX Runtime's that cost time: on a processor its norm with the addition inside takes several times as
long as the two by themselves (MiniLM, 32 rows of 32 tokens: 0.86 ms against 0.18)."""
ERRORS_ONLY = 3
NOTHING = 4


def open_session(
    model: Path,
    choice: Choice,
    *,
    threads: int | None = None,
    cache: Path | None = None,
    hashes: Sequence[str] = (),
) -> ort.InferenceSession:
    """Return a session for `model`; `threads` defaults to `cores()`.

    With the folder `cache`, on a processor, the optimised graph is taken from there or kept there, by the `hashes` of
    the model's files.
    """
    disabled = SLOWER.get(choice.provider, [])

    def options() -> ort.SessionOptions:
        made = ort.SessionOptions()
        made.intra_op_num_threads = threads or cores()
        made.log_severity_level = ERRORS_ONLY if choice.provider == CPU else NOTHING
        return made

    def open_graph(graph: Path, settings: ort.SessionOptions) -> ort.InferenceSession:
        providers = [choice.provider] if choice.provider == CPU else [choice.provider, CPU]
        return ort.InferenceSession(graph, settings, providers=providers, disabled_optimizers=disabled)

    if choice.provider == CUDA:
        ort.preload_dlls()
    try:
        if cache is None or choice.provider != CPU:
            session = open_graph(model, options())
        else:
            key = key_of(hashes, choice.provider, disabled)
            session = cached_session(model, cache, key, options, open_graph)
    except Exception as error:  # ONNX Runtime's exceptions share no base class
        raise BundleError(f"ONNX Runtime does not take {model}: {_line(error)}") from error
    chosen = session.get_providers()[0]
    if chosen == choice.provider:
        logger.info("running on %s: %s", chosen, choice.reason)
    elif choice.required:
        raise ProviderError("CUDA was asked for, but ONNX Runtime could not start it: are CUDA and cuDNN installed?")
    else:
        logger.warning("running on %s: %s (%s) did not start", chosen, choice.provider, choice.reason)
    return session


def _line(error: Exception) -> str:
    return str(error).strip().splitlines()[0]
