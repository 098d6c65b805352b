"""Compare a session's inputs and outputs with those of its bundle's manifest."""

import onnxruntime as ort

from serve.bundle.manifest import Edge
from serve.bundle.reader import Bundle
from serve.errors import BundleError


def check_edges(session: ort.InferenceSession, bundle: Bundle) -> None:
    """Raise an error if a session's graph does not have the edges that its manifest lists."""
    found = session_edges(session)
    if found != (bundle.manifest.inputs, bundle.manifest.outputs):
        raise BundleError(f"{bundle.model} does not have the inputs and outputs that the manifest lists")


def session_edges(session: ort.InferenceSession) -> tuple[list[Edge], list[Edge]]:
    """Return the inputs and the outputs of a session's graph."""
    inputs, outputs = (
        [Edge(name=value.name, dtype=value.type, shape=list(value.shape)) for value in side]
        for side in (session.get_inputs(), session.get_outputs())
    )
    return inputs, outputs
