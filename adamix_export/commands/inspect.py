"""What is in a bundle: its graphs, adapters, parity and sizes."""

import math
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import onnx

from adamix_export.text_format import columns, parity_table, size_text, stored_reports
from serve.bundle.adapter import AdapterCard
from serve.bundle.graph_io import BANK
from serve.bundle.manifest import ADAPTERS, EDGES, UNHASHED, Edge, Manifest
from serve.bundle.reader import open_bundle

INDENT = "  "


@dataclass(frozen=True, kw_only=True)
class Graph:
    """An ONNX file."""

    file: str
    nodes: int
    ops: dict[str, int]
    """By operator, those of other domains than ONNX's own with the domain before the name; the most frequent first."""
    parameters: dict[str, int]
    """Numbers in the initializers, by their type."""


@dataclass(frozen=True, kw_only=True)
class Contents:
    """What a bundle holds."""

    folder: Path
    manifest: Manifest
    cards: list[AdapterCard]
    graphs: list[Graph]
    sizes: dict[str, int]
    """Bytes of every file, by its path in the bundle."""

    def as_dict(self) -> dict[str, Any]:
        """Return the contents as JSON has them."""
        canaries = {"canary_ids", "canary_logits", "canary_tokens"}
        cards = [{name: value for name, value in asdict(card).items() if name not in canaries} for card in self.cards]
        return {
            "bundle": str(self.folder),
            "bytes": sum(self.sizes.values()),
            **asdict(self.manifest),
            "adapters": cards,
            "graphs": [asdict(graph) for graph in self.graphs],
            "sizes": self.sizes,
        }


def inspect_bundle(folder: Path) -> Contents:
    """Return what is in a bundle, after checking its hashes."""
    bundle = open_bundle(folder)
    files = [file for name in (*UNHASHED, *bundle.manifest.files) if (file := folder / name).is_file()]
    return Contents(
        folder=folder,
        manifest=bundle.manifest,
        cards=[adapter.card for adapter in bundle.adapters.values()],
        graphs=[_graph(folder, name) for name in bundle.manifest.files if name.endswith(".onnx")],
        sizes={str(file.relative_to(folder)): file.stat().st_size for file in files},
    )


def describe(contents: Contents) -> str:
    """Return the contents for people."""
    manifest = contents.manifest
    return "\n".join(
        [
            f"{contents.folder}: {manifest.task}, {manifest.shape}, {manifest.precision}, "
            f"{size_text(sum(contents.sizes.values()))}",
            f"base: {manifest.base['name']} ({manifest.base['model_type']}), sha256 {manifest.base['sha256']}",
            *_section("adapters", _adapters(contents)),
            *(
                line
                for side in EDGES
                if (edges := getattr(manifest, side))
                for line in _section(side.replace("_", "'s "), _edges(edges))
            ),
            *(line for graph in contents.graphs for line in _section(graph.file, _operators(graph))),
            *_section("parity with PyTorch", parity_table(stored_reports(manifest.parity)).splitlines()),
            *_section("files", columns([(name, size_text(size)) for name, size in contents.sizes.items()])),
            *_section("made with", [", ".join(f"{name} {version}" for name, version in manifest.versions.items())]),
        ]
    )


def _section(title: str, lines: Sequence[str]) -> list[str]:
    return ["", title, *(INDENT + line for line in lines)]


def _adapters(contents: Contents) -> list[str]:
    header = ("name", "kind", "r", "modules", "most tokens", "size", "sha256", "labels")
    rows = [
        (
            card.name,
            card.kind,
            card.r,
            card.num_modules,
            card.max_length,
            size_text(_adapter_size(contents.sizes, card.name)),
            card.sha256[:12],
            ", ".join(card.labels) or "-",
        )
        for card in contents.cards
    ]
    return columns([header, *rows])


def _adapter_size(sizes: dict[str, int], adapter: str) -> int:
    return sum(size for name, size in sizes.items() if name.startswith(f"{ADAPTERS}/{adapter}/"))


def _edges(edges: Sequence[Edge]) -> list[str]:
    """Return a line an edge; the stacks of a bank and the layers of a cache are one line each."""
    groups: dict[str, list[Edge]] = {}
    for edge in edges:
        groups.setdefault(_group(edge.name), []).append(edge)
    return columns(
        [
            (
                name if len(group) == 1 else f"{name} ({len(group)})",
                group[0].dtype.removeprefix("tensor(").removesuffix(")"),
                " × ".join(map(str, group[0].shape)) if len({str(edge.shape) for edge in group}) == 1 else "…",
            )
            for name, group in groups.items()
        ]
    )


def _group(name: str) -> str:
    if name.startswith(BANK):
        return f"{BANK}*"
    return ".".join("*" if part.isdigit() else part for part in name.split("."))


def _operators(graph: Graph) -> list[str]:
    parameters = ", ".join(f"{count:,} in {dtype}" for dtype, count in graph.parameters.items())
    ops = [f"{count} {name}" for name, count in graph.ops.items()]
    return [
        f"{graph.nodes} nodes; numbers: {parameters}",
        *(", ".join(ops[at : at + 6]) for at in range(0, len(ops), 6)),
    ]


def _graph(folder: Path, file: str) -> Graph:
    model = onnx.load(folder / file, load_external_data=False)
    graphs = list(_all_graphs(model.graph))
    ops = Counter(
        f"{node.domain}.{node.op_type}" if node.domain else node.op_type for graph in graphs for node in graph.node
    )
    parameters: Counter[str] = Counter()
    for graph in graphs:
        for tensor in graph.initializer:
            parameters[onnx.TensorProto.DataType.Name(tensor.data_type).lower()] += math.prod(tensor.dims)
    return Graph(file=file, nodes=ops.total(), ops=dict(ops.most_common()), parameters=dict(parameters.most_common()))


def _all_graphs(graph: onnx.GraphProto) -> Iterator[onnx.GraphProto]:
    """Yield a graph and those of the branches and loops in it."""
    yield graph
    for node in graph.node:
        for attribute in node.attribute:
            if attribute.HasField("g"):
                yield from _all_graphs(attribute.g)
