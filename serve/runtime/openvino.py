"""OpenVINO as an execution provider: the plug-in that Intel publishes for ONNX Runtime.

The plug-in is a package of its own (extra `openvino`). It lists a device where it finds Intel hardware, and takes the
nodes of a graph that it knows; the CPU provider runs the others.

Source: https://pypi.org/project/onnxruntime-ep-openvino/.
"""

import importlib.util
import json
import logging
from collections import Counter
from functools import cache
from pathlib import Path

import onnxruntime as ort

from serve.errors import ProviderError, first_line

logger = logging.getLogger(__name__)
OPENVINO = "OpenVINOExecutionProvider"
PACKAGE = "onnxruntime_ep_openvino"
REGISTRATION = "adamix_openvino"
"""Name under which the plug-in's library is registered with ONNX Runtime."""
EXACT_PRODUCTS = {"CPU": {"INFERENCE_PRECISION_HINT": "f32"}}
"""Configuration of OpenVINO for a graph in fp32, whose products it would round to bf16 on processors that have it."""
RECORD_ASSIGNMENT = "session.record_ep_graph_assignment_info"
OPERATORS = 8
"""Operators that a warning names."""


def find_devices() -> list[ort.OrtEpDevice]:
    """Return the processors that OpenVINO's plug-in runs on, at most one.

    Raises:
        RuntimeError: The plug-in is not installed, does not load, or finds no device; the message says what to do.
    """
    _register()
    found = [
        device
        for device in ort.get_ep_devices()
        if device.ep_name == OPENVINO and device.device.type == ort.OrtHardwareDeviceType.CPU
    ]
    if not found:
        raise RuntimeError("its plug-in finds no Intel processor on this machine: use --provider cpu")
    return found[:1]


def obstacle_of_openvino() -> str | None:
    """Return the reason why OpenVINO cannot run on this machine; None if it can."""
    try:
        find_devices()
    except RuntimeError as error:
        return str(error)
    return None


def open_on_openvino(graph: Path, options: ort.SessionOptions, *, exact: bool) -> ort.InferenceSession:
    """Return a session whose nodes run on OpenVINO as far as it takes them.

    A warning names the operators that the CPU provider runs instead.

    Args:
        graph: ONNX file.
        options: Options of the session; the provider is added to them, with as many threads.
        exact: Compute products of fp32 in fp32.

    Raises:
        ProviderError: OpenVINO's plug-in finds no device any more, or does not open the graph.
    """
    options.add_session_config_entry(RECORD_ASSIGNMENT, "1")
    provider_options = {"num_of_threads": str(options.intra_op_num_threads)}
    if exact:
        provider_options["load_config"] = json.dumps(EXACT_PRODUCTS)
    try:
        options.add_provider_for_devices(find_devices(), provider_options)
        session = ort.InferenceSession(graph, options, enable_fallback=0)
    except Exception as error:  # ONNX Runtime's exceptions share no base class
        raise ProviderError(f"OpenVINO does not open {graph}: {first_line(error)}; use --provider cpu") from error
    if left := operators_elsewhere(session):
        names = ", ".join(f"{name} ({count})" for name, count in left.most_common(OPERATORS))
        more = f", and {len(left) - OPERATORS} others" if len(left) > OPERATORS else ""
        logger.warning("OpenVINO does not take all of %s: the CPU provider runs %s%s", graph.name, names, more)
    return session


def operators_elsewhere(session: ort.InferenceSession) -> Counter[str]:
    """Return the operators that do not run on OpenVINO, with the number of their nodes."""
    parts = session.get_provider_graph_assignment_info()
    return Counter(node.op_type for part in parts if part.ep_name != OPENVINO for node in part.get_nodes())


@cache
def _register() -> None:
    found = importlib.util.find_spec(PACKAGE)
    if found is None or found.origin is None:
        raise RuntimeError("its plug-in is not installed: install the extra openvino (onnxruntime-ep-openvino)")
    library = Path(found.origin).parent / "libonnxruntime_providers_openvino_plugin.so"
    try:
        ort.register_execution_provider_library(REGISTRATION, str(library))
    except Exception as error:  # ONNX Runtime's exceptions share no base class
        raise RuntimeError(f"its plug-in does not load: {first_line(error)}") from error
