from pathlib import Path

import pytest

from adamix_train.base_model.locate import base_folder, is_hub_id
from adamix_train.errors import BaseError


@pytest.mark.parametrize("name", ["./nowhere", "/no/such/folder", "a/b/c"])
def test_a_folder_that_is_not_there_is_not_looked_up_on_a_hub(name: str) -> None:
    with pytest.raises(BaseError, match="there is no base model folder"):
        base_folder(name)


def test_a_name_in_a_folder_that_is_there_is_not_looked_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "models").mkdir()
    monkeypatch.chdir(tmp_path)
    with pytest.raises(BaseError, match="there is no base model folder models/bert"):
        base_folder("models/bert")


@pytest.mark.parametrize(
    ("name", "expected"), [("gpt2", True), ("org/model", True), ("", False), ("org/", False), ("/model", False)]
)
def test_an_id_of_the_hub_has_one_part_or_two(name: str, expected: bool) -> None:
    assert is_hub_id(name) is expected


def test_a_hub_id_without_a_hub_is_one_clear_error() -> None:
    with pytest.raises(BaseError, match="neither a folder nor available from the Hub"):
        base_folder("no-such-org/no-such-model")


def test_a_download_is_announced(caplog: pytest.LogCaptureFixture) -> None:
    with pytest.raises(BaseError):
        base_folder("no-such-org/no-such-model", revision="1234")
    assert "no-such-org/no-such-model is not on this machine: looking it up on the Hub to download it" in caplog.text


def test_a_folder_without_a_config_is_no_model(tmp_path: Path) -> None:
    with pytest.raises(BaseError, match=r"has no config\.json"):
        base_folder(str(tmp_path))
