"""adamix-export inspect BUNDLE: print the contents of a bundle."""

from __future__ import annotations

from argparse import ArgumentParser, Namespace
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from adamix_export.commands.command import Command, Output
from adamix_export.commands.signals import StopSignals
from adamix_export.parity.report import read_reports
from adamix_export.text_format import columns, parity_table, size_text
from serve.bundle.manifest import ADAPTERS, EDGES, Edge, Manifest

if TYPE_CHECKING:
    from adamix_export.commands.bundle_contents import BundleContents, Graph

INDENT = "  "
OPERATORS_PER_LINE = 6


def add_flags(parser: ArgumentParser) -> None:
    """Add the argument BUNDLE."""
    parser.add_argument("bundle", type=Path, help="folder made by adamix-export")


def run(args: Namespace, stop: StopSignals) -> Output:
    """Print the contents of the bundle."""
    from adamix_export.commands.bundle_contents import inspect_bundle

    contents = inspect_bundle(args.bundle)
    return Output(describe(contents), contents.as_dict())


def describe(contents: BundleContents) -> str:
    """Return the contents as text."""
    manifest = contents.manifest
    return "\n".join(
        [
            f"{contents.folder}: {manifest.task}, {manifest.shape}, {_precision(manifest)}, "
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
            *_section("parity with PyTorch", parity_table(read_reports(manifest.parity)).splitlines()),
            *_section("files", columns([(name, size_text(size)) for name, size in contents.sizes.items()])),
            *_section("made with", [", ".join(f"{name} {version}" for name, version in manifest.versions.items())]),
        ]
    )


def _precision(manifest: Manifest) -> str:
    share = manifest.quantized_share
    return f"{manifest.precision} ({share:.0%} of the weights quantized)" if share else manifest.precision


def _section(title: str, lines: Sequence[str]) -> list[str]:
    return ["", title, *(INDENT + line for line in lines)]


def _adapters(contents: BundleContents) -> list[str]:
    header = ("name", "kind", "r", "modules", "max tokens", "size", "sha256", "labels")
    rows = [
        (
            card.name,
            card.kind,
            card.r,
            f"1 of {card.num_modules}" if card.member_of else card.num_modules,
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
    """Return one line for each edge; all stacks of a bank, and the layers of a cache, share a line."""
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
    from serve.bundle.graph_io import BANK

    if name.startswith(BANK):
        return f"{BANK}*"
    return ".".join("*" if part.isdigit() else part for part in name.split("."))


def _operators(graph: Graph) -> list[str]:
    parameters = ", ".join(f"{count:,} in {dtype}" for dtype, count in graph.parameters.items())
    ops = [f"{count} {name}" for name, count in graph.ops.items()]
    lines = [", ".join(ops[start : start + OPERATORS_PER_LINE]) for start in range(0, len(ops), OPERATORS_PER_LINE)]
    return [f"{graph.nodes} nodes; values: {parameters}", *lines]


INSPECT = Command(
    description="Print the contents of a bundle: adapters, inputs and outputs, operators, parity, sizes.",
    examples="  adamix-export inspect bundles/both\n  adamix-export inspect bundles/both --json | jq .graphs[0].ops",
    add_flags=add_flags,
    run=run,
)
