from pathlib import Path

import pytest

from serve.bundle.checked_json import read_sealed, write_sealed
from serve.errors import BundleError


def test_content_comes_back(tmp_path: Path) -> None:
    write_sealed(tmp_path / "a.json", {"label": "naïve", "n": [1, 2.5, None]})
    assert read_sealed(tmp_path / "a.json") == {"label": "naïve", "n": [1, 2.5, None]}


def test_any_flipped_byte_is_noticed(tmp_path: Path) -> None:
    file = tmp_path / "a.json"
    write_sealed(file, {"labels": ["yes", "no"]})
    whole = file.read_bytes()
    unnoticed = []
    for index in range(len(whole)):
        file.write_bytes(whole[:index] + bytes([whole[index] ^ 1]) + whole[index + 1 :])
        try:
            if read_sealed(file) != {"labels": ["yes", "no"]}:
                unnoticed.append(index)
        except BundleError:
            pass
    assert not unnoticed


@pytest.mark.parametrize("content", ["", "[]", "{}", '{"seal": 1}', "nonsense"])
def test_what_was_not_sealed_is_refused(tmp_path: Path, content: str) -> None:
    (tmp_path / "a.json").write_text(content)
    with pytest.raises(BundleError, match=r"a\.json"):
        read_sealed(tmp_path / "a.json")


def test_a_missing_file_says_what_the_folder_is_not(tmp_path: Path) -> None:
    with pytest.raises(BundleError, match="is not a bundle"):
        read_sealed(tmp_path / "a.json")
