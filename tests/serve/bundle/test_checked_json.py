import hashlib
import json
from pathlib import Path

import pytest

from serve.bundle.checked_json import read_checked_json, write_checked_json
from serve.errors import BundleError


def test_content_comes_back(tmp_path: Path) -> None:
    write_checked_json(tmp_path / "a.json", {"label": "naïve", "n": [1, 2.5, None]})
    assert read_checked_json(tmp_path / "a.json") == {"label": "naïve", "n": [1, 2.5, None]}


def test_any_flipped_byte_is_noticed(tmp_path: Path) -> None:
    file = tmp_path / "a.json"
    write_checked_json(file, {"labels": ["yes", "no"]})
    whole = file.read_bytes()
    unnoticed = []
    for index in range(len(whole)):
        file.write_bytes(whole[:index] + bytes([whole[index] ^ 1]) + whole[index + 1 :])
        try:
            if read_checked_json(file) != {"labels": ["yes", "no"]}:
                unnoticed.append(index)
        except BundleError:
            pass
    assert not unnoticed


@pytest.mark.parametrize("content", ["", "[]", "{}", '{"seal": 1}', "nonsense"])
def test_a_file_without_a_checksum_is_refused(tmp_path: Path, content: str) -> None:
    (tmp_path / "a.json").write_text(content)
    with pytest.raises(BundleError, match=r"a\.json"):
        read_checked_json(tmp_path / "a.json")


def test_a_missing_file_says_what_the_folder_is_not(tmp_path: Path) -> None:
    with pytest.raises(BundleError, match="is not a bundle"):
        read_checked_json(tmp_path / "a.json")


def test_a_checkpoint_is_to_be_exported_first(tmp_path: Path) -> None:
    (tmp_path / "adapter_config.json").write_text("{}")
    with pytest.raises(BundleError, match=rf"it is a checkpoint: export it first, adamix-export {tmp_path} OUT"):
        read_checked_json(tmp_path / "bundle.json")


def test_the_checksum_is_the_sha256_of_the_sorted_content(tmp_path: Path) -> None:
    """Computed by hand, as files of earlier versions have it, under the key `seal`."""
    write_checked_json(tmp_path / "a.json", {"b": 1, "a": "x"})
    seal = hashlib.sha256(b'{"a": "x", "b": 1}').hexdigest()
    assert json.loads((tmp_path / "a.json").read_text()) == {"b": 1, "a": "x", "seal": seal}
