"""The sides of `benchmarks.server`: one classifier behind the HTTP servers of several systems, all in fp32."""

import contextlib
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from benchmarks.peers import HERE, PEERS
from benchmarks.support.classifier_sides import OPTIMUM, OURS
from benchmarks.support.errors import PeerError
from benchmarks.support.processes import Server, free_port, serving
from benchmarks.support.report import Absent
from serve.bundle.reader import Bundle

LITSERVE, INFINITY = "litserve", "infinity"


@dataclass(frozen=True, kw_only=True)
class Files:
    """The files that servers open."""

    bank: Bundle
    adapters: Sequence[Path]
    """Folders of adapters beside the bank."""
    model: Path
    """Folder of one of the adapters, merged, as every peer reads it."""
    cache: Path
    """Folder for optimised graphs."""


@dataclass(frozen=True, kw_only=True)
class Side:
    """A server and the form of its requests."""

    command: Callable[[Files, int], list[str]]
    """Command that serves files on a port; raises a PeerError if its peer is not there."""
    body: Callable[[str, str], Any]
    """JSON body of a request to classify a text with an adapter; servers of one model do not name it."""
    path: str = "/predict"
    goals: Mapping[int, float] = field(default_factory=dict)
    """Number of clients → the rate of adamix-serve should be at least this many times that of this server."""


def open_servers(
    files: Files, running: contextlib.ExitStack, sides: Mapping[str, Side] | None = None
) -> tuple[dict[str, Server], list[Absent]]:
    """Start each side's server until `running` ends; return them by name, and the peers that are not there."""
    servers: dict[str, Server] = {}
    absent: list[Absent] = []
    for name, side in (SIDES if sides is None else sides).items():
        port = free_port()
        try:
            command = side.command(files, port)
            body = side.body("a text", files.adapters[0].name)
            servers[name] = running.enter_context(serving(command, port, body, path=side.path))
        except PeerError as error:
            absent.append(Absent(peer=name, reason=str(error)))
    return servers, absent


def adamix_command(files: Files, port: int) -> list[str]:
    """Serve the bank with the adapters beside it."""
    adapters = [word for folder in files.adapters for word in ("--adapter", str(folder))]
    command = [sys.executable, "-m", "serve.cli", str(files.bank.folder), *adapters, "--port", str(port)]
    return [*command, "--provider", "cpu", "--cache", str(files.cache)]


def litserve_command(files: Files, port: int) -> list[str]:
    """Serve optimum's O2 graph with LitServe."""
    PEERS[LITSERVE].require()
    script = [str(PEERS[LITSERVE].python), "-I", str(HERE / "litserve_server.py")]
    return [*script, str(optimum_graph(files.model)), str(files.bank.tokenizer), str(port)]


def infinity_command(files: Files, port: int) -> list[str]:
    """Serve optimum's O2 graph with infinity-emb.

    It takes the graph for one that it has optimised itself, from its place beside `config.json`. The warm-up is left
    out: it sends more tokens than a BERT has positions.
    """
    PEERS[INFINITY].require()
    settings = ["DO_NOT_TRACK=1", "HF_HUB_OFFLINE=1", "INFINITY_LOG_LEVEL=warning"]
    command = ["env", *settings, str(PEERS[INFINITY].folder / "bin" / "infinity_emb"), "v2", "--engine", "optimum"]
    model = ["--model-id", str(optimum_graph(files.model).parent), "--served-model-name", INFINITY]
    return [*command, *model, "--device", "cpu", "--no-model-warmup", "--host", "127.0.0.1", "--port", str(port)]


def optimum_graph(model: Path) -> Path:
    """Return the O2 graph that optimum makes of a folder, beside the configuration and the tokenizer."""
    return PEERS[OPTIMUM].convert("optimum_export.py", model) / "model_optimized.onnx"


SIDES: dict[str, Side] = {
    OURS: Side(
        command=adamix_command, body=lambda text, adapter: {"inputs": text, "adapter": adapter, "truncate": True}
    ),
    LITSERVE: Side(command=litserve_command, body=lambda text, adapter: {"input": text}, goals={64: 2.0}),
    INFINITY: Side(
        command=infinity_command,
        path="/classify",
        body=lambda text, adapter: {"input": [text], "model": INFINITY},
        goals={1: 1.5, 8: 1.5, 64: 2.0},
    ),
}
"""Sides by name; one more is an entry here."""
