from pathlib import Path

import pytest

from adamix_train.recipe.paths import absolute_paths, file_names


def test_files_and_folders_become_absolute_and_a_hub_id_stays(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "base").mkdir()
    fields = {"base": "base", "out": "run", "train_file": "a.csv, b.csv", "test_file": None}
    found = absolute_paths(fields)
    assert found == {**fields, "base": str(tmp_path / "base"), "train_file": f"{tmp_path}/a.csv,{tmp_path}/b.csv"}
    assert absolute_paths(found) == found
    assert absolute_paths({"base": "org/model"}) == {"base": "org/model"}


def test_names_are_separated_by_commas() -> None:
    assert file_names("a.csv, b.csv") == ["a.csv", "b.csv"]
