"""Open ONNX Runtime sessions, and log the provider and the reason for it."""

import logging
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import onnxruntime as ort

from serve.errors import BundleError, ProviderError, first_line
from serve.runtime.cuda_graphs import CAPTURING
from serve.runtime.cuda_libraries import built_for, missing_libraries, preload, start_failure
from serve.runtime.graph_cache import cache_key, cached_session
from serve.runtime.openvino import OPENVINO, open_on_openvino
from serve.runtime.providers import CPU, CUDA, ProviderChoice, usable_cores, without_cuda

logger = logging.getLogger(__name__)
DISABLED_OPTIMIZERS = {CPU: ["SkipLayerNormFusion"]}
"""Optimizers of ONNX Runtime that make a graph slower, by provider.

On the CPU, its fused addition and layer norm takes several times as long as the two operators (MiniLM, 32 rows of 32
tokens: 0.86 ms against 0.18)."""
EXACT = {"use_tf32": "0"}
"""Options of CUDA for a graph in fp32, whose products it would otherwise round to the 10 bits of fp16's mantissa."""
ERRORS_ONLY = 3
"""Log severity of ONNX Runtime. It has the reason why CUDA does not start."""
DEVICE = ("CUDA", "CUBLAS", "CUDNN")
"""Parts of messages of ONNX Runtime that tell of a device."""
NO_MEMORY = ("out of memory", "Failed to allocate memory")
"""Parts of messages of ONNX Runtime that say that the device has no memory left."""


def open_session(
    model: Path,
    choice: ProviderChoice,
    *,
    threads: int | None = None,
    cache: Path | None = None,
    hashes: Sequence[str] = (),
    capture: bool = False,
    exact: bool = False,
) -> ort.InferenceSession:
    """Return a session for `model`, and log its provider.

    Where CUDA does not start, or cannot run the model, the session is one on the CPU, and a warning says why.

    Args:
        model: ONNX file.
        choice: Execution provider to run on.
        threads: Threads of a run on the CPU; None takes all usable cores.
        cache: Folder for optimised graphs of the CPU provider; None keeps none.
        hashes: sha256 of the model's files, which name its entry in the cache.
        capture: Capture runs on CUDA as CUDA graphs, if the model allows it; their options say which.
        exact: Compute products of fp32 in fp32 on CUDA and OpenVINO too.

    Raises:
        BundleError: ONNX Runtime cannot load the model.
        ProviderError: A required provider did not start, or has no memory for the model.
    """
    if choice.provider == CUDA:
        preload()
    try:
        open_graph = partial(OPENERS[choice.provider], exact, capture)
        session = _open(model, choice, open_graph, threads=threads, cache=cache, hashes=hashes)
    except ProviderError:
        raise
    except Exception as error:  # ONNX Runtime's exceptions share no base class
        obstacle = obstacle_of(choice, error)
        if obstacle is None:
            raise BundleError(f"ONNX Runtime does not take {model}: {first_line(error)}") from error
    else:
        has_started = choice.provider != CUDA or session.get_providers()[0] == CUDA
        obstacle = None if has_started else start_failure()
    if obstacle is not None:
        return open_session(model, without_cuda(choice, obstacle), threads=threads, cache=cache, hashes=hashes)
    level = logging.WARNING if choice.is_fallback else logging.INFO
    logger.log(level, "running on %s: %s", choice.provider, choice.reason)
    return session


def captures_graphs(session: ort.InferenceSession) -> bool:
    """Return True if a session captures its runs as CUDA graphs."""
    options = session.get_provider_options().get(CUDA, {})
    return all(options.get(name) == value for name, value in CAPTURING.items())


def _open(
    model: Path,
    choice: ProviderChoice,
    open_graph: Callable[[Path, ort.SessionOptions], ort.InferenceSession],
    *,
    threads: int | None,
    cache: Path | None,
    hashes: Sequence[str],
) -> ort.InferenceSession:
    make_options = partial(_options, threads)
    if cache is None or choice.provider != CPU:
        return open_graph(model, make_options())
    key = cache_key(hashes, choice.provider, DISABLED_OPTIMIZERS.get(choice.provider, []))
    return cached_session(model, cache, key, make_options, open_graph)


def obstacle_of(choice: ProviderChoice, error: Exception) -> str | None:
    """Return the reason why a device, and not the model, kept a session from opening; None if it did not."""
    if choice.provider != CUDA:
        return None
    if any(part in str(error) for part in NO_MEMORY):
        return f"the GPU has too little memory: {first_line(error)}; take fewer --slots, or a smaller --precision"
    if missing_libraries(built_for()[0]):
        return start_failure()
    if choice.required and not any(part in str(error) for part in DEVICE):
        return None
    return f"the GPU does not open the model: {first_line(error)}"


def _options(threads: int | None) -> ort.SessionOptions:
    options = ort.SessionOptions()
    options.intra_op_num_threads = threads or usable_cores()
    options.log_severity_level = ERRORS_ONLY
    return options


def _open_on_cpu(exact: bool, capture: bool, graph: Path, options: ort.SessionOptions) -> ort.InferenceSession:
    return _session(graph, options, [CPU])


def _open_on_cuda(exact: bool, capture: bool, graph: Path, options: ort.SessionOptions) -> ort.InferenceSession:
    cuda_options = EXACT if exact else {}
    if capture:
        try:
            return _session(graph, options, [(CUDA, cuda_options | CAPTURING), CPU])
        except Exception as error:  # such as for a node that does not run on the device
            logger.warning("the runs of %s are not captured in CUDA graphs: %s", graph.name, first_line(error))
    return _session(graph, options, [(CUDA, cuda_options), CPU])


def _open_on_openvino(exact: bool, capture: bool, graph: Path, options: ort.SessionOptions) -> ort.InferenceSession:
    return open_on_openvino(graph, options, exact=exact)


OPENERS = {CPU: _open_on_cpu, CUDA: _open_on_cuda, OPENVINO: _open_on_openvino}
"""Functions that open a graph, by provider: (exact, capture, graph, options) -> session."""


def _session(graph: Path, options: ort.SessionOptions, providers: list[Any]) -> ort.InferenceSession:
    first = providers[0] if isinstance(providers[0], str) else providers[0][0]
    disabled = DISABLED_OPTIMIZERS.get(first, [])
    # Without `enable_fallback=0`, a session whose device fails is replaced by one on the CPU, with a line on stdout.
    return ort.InferenceSession(graph, options, providers=providers, disabled_optimizers=disabled, enable_fallback=0)
