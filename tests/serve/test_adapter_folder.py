import os
import shutil
from pathlib import Path

import pytest

from serve.adapter_folder import FILES, Named, adapter_folders, fingerprint, has_card, named_in_card, without_paths
from serve.bundle.adapter import CARD, WEIGHTS, read_adapter
from tests.serve.conftest import Reference, write_adapter


@pytest.fixture
def folder(tmp_path: Path, reference: Reference) -> Path:
    write_adapter(tmp_path / "root" / "tone", reference, "tone")
    return tmp_path / "root" / "tone"


def test_the_files_are_those_of_adapters() -> None:
    assert FILES == (CARD, WEIGHTS)


def test_a_fingerprint_changes_with_content_time_and_replacement(folder: Path) -> None:
    found = [fingerprint(folder)]
    assert fingerprint(folder) == found[0]
    os.utime(folder / CARD, ns=(1, 1))
    found.append(fingerprint(folder))
    (folder / WEIGHTS).write_bytes(b"x")
    found.append(fingerprint(folder))
    (folder / WEIGHTS).unlink()
    found.append(fingerprint(folder))
    assert len(set(found)) == 4
    assert has_card(found[-1])
    shutil.rmtree(folder)
    assert fingerprint(folder) == ()


def test_only_folders_with_a_card_are_adapters(folder: Path) -> None:
    root = folder.parent
    (root / "notes").mkdir()
    (root / "file").touch()
    shutil.copytree(folder, root / ".hidden")
    assert list(adapter_folders(root)) == ["tone"]


def test_a_card_names_its_adapter_unless_it_cannot_be_read(folder: Path) -> None:
    named = named_in_card(folder)
    card = read_adapter(folder).card
    assert named is not None and (named.name, named.sha256) == (card.name, card.sha256)
    for content in (b"{", b"[]", b'{"name": 1, "sha256": "x"}', b'{"name": "tone"}', b"\xff"):
        (folder / CARD).write_bytes(content)
        assert named_in_card(folder) is None


@pytest.mark.parametrize(
    ("message", "expected"),
    [
        ("/srv/adapters/tone/adapter.json is damaged", "mood/adapter.json is damaged"),
        ("rows of tone cannot be run in /srv/bundles/both: bad", "rows of tone cannot be run in both: bad"),
        ("'/etc/passwd' and 1/2 of http://x/y/z", "'passwd' and 1/2 of http://x/y/z"),
        ("adapter.json is 2 / 3 of it", "adapter.json is 2 / 3 of it"),
    ],
)
def test_messages_tell_no_path_of_the_server(message: str, expected: str) -> None:
    assert without_paths(message, Path("/srv/adapters/tone"), "mood") == expected


def test_a_card_that_is_a_pipe_or_a_folder_is_none_and_nobody_waits_for_it(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "adapter.json")
    assert named_in_card(tmp_path) is None
    (tmp_path / "other" / "adapter.json").mkdir(parents=True)
    assert named_in_card(tmp_path / "other") is None
    (tmp_path / "whole").mkdir()
    (tmp_path / "whole" / "adapter.json").write_text('{"name": "mood", "sha256": "0"}')
    assert named_in_card(tmp_path / "whole") == Named("mood", "0")
