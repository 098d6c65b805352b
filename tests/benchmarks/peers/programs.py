"""The peers' programs with the modules of `fakes` in place of their packages: in a process, or in an environment."""

import importlib.util
import sys
import sysconfig
import venv
from dataclasses import replace
from pathlib import Path
from types import ModuleType

import pytest

from benchmarks.peers import HERE, PEERS, Peer, answering

FAKES = Path(__file__).parent / "fakes"


def fake_environment(environments: Path, name: str) -> Peer:
    """Make the environment of a peer, below `environments`; of the project's packages it has those of others."""
    peer = replace(PEERS[name], environments=environments)
    venv.create(peer.folder, symlinks=True)
    (packages,) = peer.folder.glob("lib/python*/site-packages")
    (packages / "fakes.pth").write_text(f"{FAKES}\n{sysconfig.get_path('purelib')}\n")
    peer.marker.write_text(peer.fingerprint)
    return peer


def load_program(name: str, monkeypatch: pytest.MonkeyPatch, **modules: ModuleType) -> ModuleType:
    """Load a program into this process, where it finds `modules`."""
    for other, module in {"answering": answering, **modules}.items():
        monkeypatch.setitem(sys.modules, other, module)
    spec = importlib.util.spec_from_file_location(name, HERE / f"{name}.py")
    assert spec is not None and spec.loader is not None
    program = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(program)
    return program
