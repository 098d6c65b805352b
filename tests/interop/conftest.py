"""Servers as users start them, and clients in environments of their own."""

import json
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TextIO

import pytest

from tests.adamix_export.converters.peer import peer
from tests.fixtures.byte_decoder import write_byte_bundle
from tests.fixtures.chat_templates import HERMES
from tests.serve.conftest import LABELS, Reference, reference, write_bundle

__all__ = ["reference"]
Ask = Callable[..., Any]
"""Runs a peer's client script on arguments and returns what it found."""


@contextmanager
def serving(*arguments: object) -> Iterator[str]:
    """Run adamix-serve on a free port until the block ends, and yield its address."""
    command = [sys.executable, "-m", "serve.cli", *map(str, arguments), "--provider", "cpu", "--no-cache"]
    with tempfile.TemporaryFile("w+") as log:
        server = subprocess.Popen([*command, "--threads", "1", "--port", "0"], stderr=log)
        try:
            yield _address(server, log)
        finally:
            server.terminate()
            assert server.wait(30) == 0
        assert "Traceback" not in _content(log), _content(log)


def _address(server: "subprocess.Popen[bytes]", log: TextIO) -> str:
    while server.poll() is None:
        if found := re.search(r" on (http://\S+)$", _content(log), re.MULTILINE):
            return found[1]
        time.sleep(0.05)
    raise AssertionError(_content(log))


def _content(log: TextIO) -> str:
    log.seek(0)
    return log.read()


@pytest.fixture
def ask(tmp_path: Path, record_property: Callable[[str, object], None]) -> Ask:
    """Run `NAME_client.py` with the peer NAME, or skip; the report gets the versions of its packages."""

    def run(name: str, *arguments: object, script: str | None = None) -> Any:
        client, file = peer(name), tmp_path / "found.json"
        for package, version in client.versions().items():
            record_property(package.partition("/")[2], version)
        client.run(script or f"{name}_client.py", *map(str, arguments), file)
        return json.loads(file.read_text())

    return run


@pytest.fixture(scope="session")
def writer_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A bank of three generating adapters, whose base has a chat template that takes tools."""
    return write_byte_bundle(tmp_path_factory.mktemp("bytes") / "bundle", HERMES)


@pytest.fixture(scope="session")
def writer(writer_folder: Path) -> Iterator[str]:
    """Address of a server with that bank."""
    with serving(writer_folder) as address:
        yield address


@pytest.fixture(scope="session")
def bank_folder(tmp_path_factory: pytest.TempPathFactory, reference: Reference) -> Path:
    """A bank of classifiers of texts and of pairs, and a regression."""
    return write_bundle(tmp_path_factory.mktemp("bank") / "bundle", reference, list(LABELS))


@pytest.fixture(scope="session")
def classifiers(bank_folder: Path) -> Iterator[str]:
    """Address of a server with that bank."""
    with serving(bank_folder) as address:
        yield address
