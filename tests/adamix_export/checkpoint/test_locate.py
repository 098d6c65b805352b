from pathlib import Path

import huggingface_hub.constants
import pytest

from adamix_export.checkpoint.checkpoint import open_checkpoint
from adamix_export.checkpoint.locate import adapter_name, checkpoint_folder, split_argument
from adamix_train.errors import CheckpointError
from tests.fixtures.hub_cache import REVISION, pull


@pytest.fixture
def hub_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The cache of a machine without a network."""
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    return tmp_path / "cache"


@pytest.mark.slow
@pytest.mark.parametrize("argument", ["org/name", f"org/name@{REVISION}", "mine=org/name"])
def test_a_checkpoint_of_the_hub_opens_from_its_cache(argument: str, lora: Path, hub_cache: Path) -> None:
    pull(lora, hub_cache)
    found = open_checkpoint(argument)
    assert found.name == ("mine" if "=" in argument else "name")
    assert found.card == open_checkpoint(str(lora)).card


def test_a_repository_that_cannot_be_reached_is_one_clear_error(
    hub_cache: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with pytest.raises(
        CheckpointError, match="checkpoint no-org/no-name is neither a folder nor available from the Hub"
    ):
        checkpoint_folder("no-org/no-name@v1")
    assert "checkpoint no-org/no-name is not on this machine: looking it up on the Hub to download it" in caplog.text


@pytest.mark.parametrize("place", ["runs/tonne", "/no/such/folder", "./no/folder", "~/none", "plain", "a/b/c", "a/"])
def test_a_folder_that_is_not_there_is_not_looked_up(
    place: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "runs").mkdir()
    with pytest.raises(CheckpointError, match=f"there is no checkpoint folder {place}"):
        checkpoint_folder(place)
    assert not caplog.text


def test_a_name_is_given_or_that_of_the_folder_or_the_repository(tmp_path: Path) -> None:
    (tmp_path / "tone@2").mkdir()
    assert adapter_name(f"mine={tmp_path}") == "mine"
    assert adapter_name(str(tmp_path / "tone@2")) == "tone@2"
    assert adapter_name("some-org/tone@v2") == "tone"


def test_an_equals_sign_in_a_path_is_no_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "lr=1e-3").mkdir()
    monkeypatch.chdir(tmp_path)
    assert split_argument("lr=1e-3") == ("lr=1e-3", "lr=1e-3")
    assert split_argument("runs/lr=1e-3/tone") == ("tone", "runs/lr=1e-3/tone")
    assert split_argument("mine=runs/lr=1e-3/tone") == ("mine", "runs/lr=1e-3/tone")
    assert split_argument("mine=lr=1e-3") == ("mine", "lr=1e-3")
