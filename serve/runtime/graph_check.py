"""Compare the inputs and outputs of a session's graph with those that the manifest lists."""

from collections.abc import Sequence
from pathlib import Path

import onnxruntime as ort

from serve.bundle.graph_io import LOGITS
from serve.bundle.manifest import Edge
from serve.errors import BundleError


def check_edges(
    session: ort.InferenceSession,
    graph: Path,
    inputs: Sequence[Edge],
    outputs: Sequence[Edge],
    optional_inputs: Sequence[Edge] = (),
) -> None:
    """Raise a BundleError if the graph in the file `graph` has other inputs or outputs.

    An input that may be left out may be listed or not: bundles of earlier versions list none.
    """
    found = _edges(session.get_overridable_initializers())
    if session_edges(session) != (list(inputs), list(outputs)) or any(one not in found for one in optional_inputs):
        raise BundleError(f"{graph} does not have the inputs and outputs that the manifest lists")


def check_logits(graph: Path, outputs: Sequence[Edge]) -> None:
    """Raise a BundleError if a graph has no logits."""
    if LOGITS not in {edge.name for edge in outputs}:
        raise BundleError(f"{graph} has no output {LOGITS}: export it again")


def session_edges(session: ort.InferenceSession) -> tuple[list[Edge], list[Edge]]:
    """Return the inputs that a session's graph needs, and its outputs."""
    return _edges(session.get_inputs()), _edges(session.get_outputs())


def _edges(values: Sequence[ort.NodeArg]) -> list[Edge]:
    return [Edge(name=value.name, dtype=value.type, shape=list(value.shape)) for value in values]
