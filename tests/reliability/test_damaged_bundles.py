"""Bundles with a flipped byte, a file that is cut, swapped, linked away or unreadable: refused, naming the file.

A server that runs meanwhile goes on, with the adapters that it has.
"""

import os
import random
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import pytest

from serve.bundle.adapter import read_adapter
from serve.bundle.manifest import MANIFEST
from serve.bundle.reader import open_bundle
from serve.errors import BundleError
from tests.reliability.conftest import Server, serve
from tests.reliability.hostile import copy, files_of

SHORT, LONG = 40, 2000
"""Places at which a byte is flipped, in the ordinary tests and in the long form."""


def flip(file: Path, place: int, bit: int) -> None:
    """Change one bit of a file."""
    with file.open("r+b") as stream:
        stream.seek(place)
        (byte,) = stream.read(1)
        stream.seek(place)
        stream.write(bytes([byte ^ (1 << bit)]))


def flips(folder: Path, count: int) -> Iterator[tuple[Path, int, int]]:
    """Yield files, places and bits, spread over all files alike, and put each back afterwards."""
    chosen, files = random.Random(0), files_of(folder)
    for index in range(count):
        file = files[index % len(files)]
        place, bit = chosen.randrange(file.stat().st_size), chosen.randrange(8)
        flip(file, place, bit)
        yield file, place, bit
        flip(file, place, bit)


def check_flips(folder: Path, count: int) -> None:
    """Assert that each flipped bit is refused with the name of its file; in JSON some change nothing that is read."""
    before, accepted = open_bundle(folder), []
    for file, place, bit in flips(folder, count):
        try:
            found = open_bundle(folder)
        except BundleError as error:
            assert file.name in str(error), f"{file} at {place}: {error}"
        else:
            accepted.append((file.name, place, bit))
            assert found.manifest == before.manifest
    assert {name for name, *_ in accepted} <= {MANIFEST}, accepted


def test_a_flipped_byte_is_refused_with_the_name_of_its_file(classifier_folder: Path, tmp_path: Path) -> None:
    check_flips(copy(classifier_folder, tmp_path / "bundle"), SHORT)


@pytest.mark.soak
def test_a_byte_flipped_anywhere_is_refused(classifier_folder: Path, generator_folder: Path, tmp_path: Path) -> None:
    check_flips(copy(classifier_folder, tmp_path / "classifier"), LONG)
    check_flips(copy(generator_folder, tmp_path / "generator"), LONG)


def cut(file: Path) -> None:
    os.truncate(file, file.stat().st_size // 2)


def emptied(file: Path) -> None:
    os.truncate(file, 0)


def lengthened(file: Path) -> None:
    with file.open("ab") as stream:
        stream.write(b"{}")


def removed(file: Path) -> None:
    file.unlink()


def linked_away(file: Path) -> None:
    outside = file.parents[3] / f"outside.{file.name}"
    file.rename(outside)
    file.symlink_to(outside)


def linked_to_itself(file: Path) -> None:
    file.unlink()
    file.symlink_to(file)


def a_folder(file: Path) -> None:
    file.unlink()
    file.mkdir()


def a_pipe(file: Path) -> None:
    file.unlink()
    os.mkfifo(file)


HARMS: tuple[Callable[[Path], None], ...] = (
    cut,
    emptied,
    lengthened,
    removed,
    linked_away,
    linked_to_itself,
    a_folder,
    a_pipe,
)


@pytest.mark.parametrize("harm", HARMS, ids=lambda harm: harm.__name__)
def test_any_harmed_file_is_named(harm: Callable[[Path], None], classifier_folder: Path, tmp_path: Path) -> None:
    for number, file in enumerate(files_of(classifier_folder)):
        folder = copy(classifier_folder, tmp_path / "a" / "b" / f"bundle{number}")
        within = file.relative_to(classifier_folder)
        harm(folder / within)
        with pytest.raises(BundleError) as error:
            open_bundle(folder)
        assert file.name in str(error.value)
        assert "\n" not in str(error.value)


def test_swapped_files_are_named(classifier_folder: Path, tmp_path: Path) -> None:
    folder = copy(classifier_folder, tmp_path / "bundle")
    one, other = (folder / "adapters" / name / "adapter.safetensors" for name in ("tone", "intent"))
    one.rename(tmp_path / "one")
    other.rename(one)
    (tmp_path / "one").rename(other)
    with pytest.raises(BundleError, match=r"adapter\.safetensors is damaged"):
        open_bundle(folder)


@pytest.mark.parametrize("number", [13, 5])
def test_a_file_that_cannot_be_read_is_named(
    number: int, classifier_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without permission, or on a disk that fails."""
    ordinary = Path.open
    for file in files_of(classifier_folder):

        def refuse(path: Path, *arguments: object, wrong: Path = file, **options: object) -> object:
            if path == wrong:
                raise OSError(number, os.strerror(number), str(path))
            return ordinary(path, *arguments, **options)  # type: ignore[call-overload]

        monkeypatch.setattr(Path, "open", refuse)
        with pytest.raises(BundleError, match=rf"{file.name} .*{os.strerror(number)}"):
            open_bundle(classifier_folder)


@pytest.fixture(scope="module")
def server(classifier_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Server, Path]]:
    """A server, and a copy of its adapter `tone` below the folder that it loads adapters from."""
    root = tmp_path_factory.mktemp("server")
    shutil.copytree(classifier_folder / "adapters" / "tone", root / "adapters" / "sub" / "tone")
    arguments = (classifier_folder, "--no-cache", "--adapter-dir", root / "adapters")
    with serve(*arguments) as found:
        yield found, root / "adapters" / "sub" / "tone"


def reload(server: Server) -> httpx.Response:
    """Replace the adapter `tone` by the one in the folder."""
    body = {"lora_name": "tone", "lora_path": "sub/tone", "load_inplace": True}
    return httpx.post(f"{server.address}/v1/load_lora_adapter", json=body, timeout=30)


@pytest.mark.parametrize("harm", HARMS, ids=lambda harm: harm.__name__)
@pytest.mark.parametrize("name", ["adapter.json", "adapter.safetensors"])
def test_a_running_server_refuses_a_harmed_adapter_and_goes_on(
    name: str, harm: Callable[[Path], None], server: tuple[Server, Path], tmp_path: Path
) -> None:
    running, folder = server
    before = running.ask()
    whole = copy(folder, tmp_path / "whole")
    harm(folder / name)
    response = reload(running)
    copy(whole, folder)
    assert response.status_code == 422
    assert name in response.text
    assert running.ask().json() == before.json()
    assert reload(running).status_code == 200
    assert not any("Traceback" in line for line in running.log)


def test_a_running_server_does_not_need_the_files_that_it_was_started_with(
    classifier_folder: Path, tmp_path: Path
) -> None:
    """Its weights are mapped from the graph cache, which is its own; a mapped file that is cut would kill it."""
    folder = copy(classifier_folder, tmp_path / "bundle")
    with serve(folder, "--cache", tmp_path / "cache") as running:
        before = {name: running.ask(name).json() for name in ("tone", "intent")}
        for file in files_of(folder):
            emptied(file)
        assert {name: running.ask(name).json() for name in ("tone", "intent")} == before
    with pytest.raises(BundleError, match=r"bundle\.json is damaged"):
        open_bundle(folder)


def test_weights_that_are_replaced_while_they_are_read_are_those_that_were_hashed(
    classifier_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The bytes are read once: between two readings another process may have put something else there."""
    folder = copy(classifier_folder / "adapters" / "tone", tmp_path / "tone")
    expected = {name: tensor.copy() for name, tensor in read_adapter(folder).tensors.items()}
    ordinary = Path.read_bytes

    def replaced(path: Path) -> bytes:
        content = ordinary(path)
        path.write_bytes(b"")
        return content

    monkeypatch.setattr(Path, "read_bytes", replaced)
    found = read_adapter(folder).tensors
    assert all((found[name] == expected[name]).all() for name in expected)
