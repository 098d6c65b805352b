"""The contents of a bundle: manifest, adapters, graphs and file sizes."""

import math
from collections import Counter
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import onnx

from serve.bundle.adapter import AdapterCard
from serve.bundle.manifest import UNHASHED, Manifest
from serve.bundle.reader import open_bundle

CANARIES = {"canary_ids", "canary_logits", "canary_tokens"}
"""Fields of an adapter's card that are too long to show."""


@dataclass(frozen=True, kw_only=True)
class Graph:
    """An ONNX file."""

    file: str
    nodes: int
    ops: dict[str, int]
    """Number of nodes by operator, most frequent first; operators outside ONNX's own domain have it as a prefix."""
    parameters: dict[str, int]
    """Number of values in the initializers by data type."""


@dataclass(frozen=True, kw_only=True)
class BundleContents:
    """Everything that a bundle holds."""

    folder: Path
    manifest: Manifest
    cards: list[AdapterCard]
    graphs: list[Graph]
    sizes: dict[str, int]
    """Bytes of every file, by its path in the bundle."""

    def as_dict(self) -> dict[str, Any]:
        """Return the contents for JSON output."""
        cards = [{name: value for name, value in asdict(card).items() if name not in CANARIES} for card in self.cards]
        return {
            "bundle": str(self.folder),
            "bytes": sum(self.sizes.values()),
            **asdict(self.manifest),
            "adapters": cards,
            "graphs": [asdict(graph) for graph in self.graphs],
            "sizes": self.sizes,
        }


def inspect_bundle(folder: Path) -> BundleContents:
    """Return the contents of the bundle in `folder`; raise a `BundleError` if a hash does not match."""
    bundle = open_bundle(folder)
    files = [file for name in (*UNHASHED, *bundle.manifest.files) if (file := folder / name).is_file()]
    return BundleContents(
        folder=folder,
        manifest=bundle.manifest,
        cards=[adapter.card for adapter in bundle.adapters.values()],
        graphs=[_read_graph(folder, name) for name in bundle.manifest.files if name.endswith(".onnx")],
        sizes={str(file.relative_to(folder)): file.stat().st_size for file in files},
    )


def all_graphs(graph: onnx.GraphProto) -> Iterator[onnx.GraphProto]:
    """Yield a graph and the subgraphs of its branches and loops."""
    yield graph
    for node in graph.node:
        for attribute in node.attribute:
            if attribute.HasField("g"):
                yield from all_graphs(attribute.g)


def _read_graph(folder: Path, file: str) -> Graph:
    model = onnx.load(folder / file, load_external_data=False)
    graphs = list(all_graphs(model.graph))
    ops = Counter(
        f"{node.domain}.{node.op_type}" if node.domain else node.op_type for graph in graphs for node in graph.node
    )
    parameters: Counter[str] = Counter()
    for graph in graphs:
        for tensor in graph.initializer:
            parameters[onnx.TensorProto.DataType.Name(tensor.data_type).lower()] += math.prod(tensor.dims)
    return Graph(file=file, nodes=ops.total(), ops=dict(ops.most_common()), parameters=dict(parameters.most_common()))
