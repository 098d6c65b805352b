import argparse
import asyncio
import logging
import shutil
from pathlib import Path

import pytest

from serve.adapter_loading import AdapterLoading
from serve.api_keys import ApiKeys, read_api_keys
from serve.args import parse_args, read_args
from serve.classification.async_classifier import AsyncClassifier
from serve.classification.classifier import Classifier
from serve.errors import ConfigurationError
from serve.reload import RELOADS, Reloader, Running
from tests.serve.conftest import LABELS, Reference, write_adapter, write_bundle


@pytest.fixture
def engine(tmp_path: Path, reference: Reference) -> AsyncClassifier:
    bundle = write_bundle(tmp_path / "bundle", reference, ["tone"])
    return AsyncClassifier(Classifier(bundle, provider="cpu", threads=1, slots=4))


@pytest.fixture
def root(tmp_path: Path, reference: Reference) -> Path:
    """A folder of the adapters `intent` and `grade`."""
    for name in ("intent", "grade"):
        write_adapter(tmp_path / "adapters" / name, reference, name)
    return tmp_path / "adapters"


@pytest.fixture
def running(engine: AsyncClassifier, root: Path) -> Running:
    return Running(engine=engine, loading=AdapterLoading(engine=engine, root=root), names={})


def settings(*flags: str | Path) -> argparse.Namespace:
    return parse_args(["bundle", *map(str, flags)])


def reload(running: Running, *flags: str | Path) -> None:
    """Read settings again that were those of a command line without flags."""
    Reloader(running, settings(), lambda: settings(*flags))()


def names(running: Running) -> list[str]:
    return [model.name for model in running.engine.models()]


def sha256(running: Running, name: str) -> str:
    model = running.engine.model(name)
    assert model is not None
    return model.sha256


def test_adapters_are_added_and_removed_as_the_settings_name_them(running: Running, root: Path) -> None:
    reload(running, "--adapter", root / "intent", "--adapter", root / "grade")
    assert names(running) == ["tone", "intent", "grade"]
    reload(running, "--adapter", root / "grade")
    assert names(running) == ["tone", "grade"]
    reload(running)
    assert names(running) == ["tone"]


def test_weights_that_have_changed_are_replaced_and_others_stay(
    running: Running, root: Path, reference: Reference, caplog: pytest.LogCaptureFixture
) -> None:
    write_adapter(root / "mood", reference, "tone", name="mood")
    flags = ["--adapter", root / "mood", "--adapter", root / "grade"]
    reload(running, *flags)
    before, loads = sha256(running, "mood"), []
    load = running.engine.load
    running.engine.load = lambda folder, **options: loads.append(folder) or load(folder, **options)  # type: ignore
    shutil.rmtree(root / "mood")
    write_adapter(root / "mood", reference, "match", name="mood", pairs=False, labels=LABELS["tone"])
    with caplog.at_level(logging.INFO):
        reload(running, *flags)
    assert loads == [root / "mood"]
    assert sha256(running, "mood") != before
    assert "replaced adapter mood" in caplog.text


@pytest.mark.parametrize("harm", ["damaged", "nowhere"])
def test_with_a_damaged_adapter_nothing_is_changed(
    harm: str, running: Running, root: Path, caplog: pytest.LogCaptureFixture
) -> None:
    reload(running, "--adapter", root / "intent")
    if harm == "damaged":
        weights = root / "intent" / "adapter.safetensors"
        weights.write_bytes(weights.read_bytes()[:-1])
    else:
        shutil.rmtree(root / "intent")
    before = sha256(running, "intent")
    with caplog.at_level(logging.INFO):
        reload(running, "--adapter", root / "grade", "--adapter", root / "intent")
    assert names(running) == ["tone", "intent"]
    assert sha256(running, "intent") == before
    (line,) = caplog.messages
    assert line.startswith(f"nothing was reloaded, and the server runs on as it was: {root / 'intent'}")


def test_an_adapter_that_differs_from_pytorch_is_refused_and_the_others_are_loaded(
    running: Running, root: Path, reference: Reference, caplog: pytest.LogCaptureFixture
) -> None:
    """That is found out when it runs, and not before."""
    wrong = root / "wrong"
    write_adapter(wrong, reference, "match", canary_logits=[[9.0, 9.0], [9.0, 9.0]])
    with caplog.at_level(logging.INFO):
        reload(running, "--adapter", wrong, "--adapter", root / "grade")
    assert names(running) == ["tone", "grade"]
    assert f"adapter {wrong} is refused, and what was served stays: " in caplog.text
    assert caplog.messages[-1] == "reloaded, but for 1 of the adapters"


KEY = '[some]\nsha256 = "' + "0" * 64 + '"\n'


def test_with_a_broken_file_of_keys_nothing_is_changed_and_that_is_told(
    running: Running, root: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (file := tmp_path / "keys.toml").write_text(KEY)
    running.api_keys = ApiKeys(read_api_keys(file))
    kept: list[argparse.Namespace] = []
    first = settings("--api-keys", file)
    reloader = Reloader(
        running, first, lambda: settings("--api-keys", file, "--adapter", root / "grade"), keep=kept.append
    )
    file.write_text(KEY + "nonsense")
    with caplog.at_level(logging.INFO):
        assert not reloader()
    (line,) = caplog.messages
    assert line.startswith(f"nothing was reloaded, and the server runs on as it was: {file}: ")
    assert (names(running), list(running.api_keys.by_name), kept) == (["tone"], ["some"], [])
    file.write_text(KEY + KEY.replace("some", "other").replace("0", "1"))
    with caplog.at_level(logging.INFO):
        assert reloader()
    assert caplog.messages[-1] == "reloaded"
    assert (names(running), list(running.api_keys.by_name)) == (["tone", "grade"], ["some", "other"])
    assert [one.adapter for one in kept] == [[root / "grade"]]


def test_settings_that_wait_are_not_kept(running: Running) -> None:
    kept: list[argparse.Namespace] = []
    Reloader(running, settings("--port", "1"), lambda: settings("--port", "2"), keep=kept.append)()
    assert [one.port for one in kept] == [1]


def test_an_adapter_that_clients_loaded_is_replaced_from_its_folder(
    running: Running, root: Path, reference: Reference
) -> None:
    write_adapter(root / "mood", reference, "tone", name="mood")
    asyncio.run(running.loading.load("mood", "mood", replace=False))
    before, tone = sha256(running, "mood"), sha256(running, "tone")
    for name in ("mood", "tone"):  # the server's own adapter is not taken from the folder
        shutil.rmtree(root / name, ignore_errors=True)
        write_adapter(root / name, reference, "match", name=name, pairs=False, labels=LABELS["tone"])
    reload(running, "--adapter-dir", root)
    assert sha256(running, "mood") != before
    assert sha256(running, "tone") == tone
    assert names(running) == ["tone", "mood"]
    shutil.rmtree(root / "mood")
    reload(running, "--adapter-dir", root)
    assert names(running) == ["tone", "mood"]
    asyncio.run(running.loading.unload("mood"))
    reload(running, "--adapter-dir", root)
    assert names(running) == ["tone"]


def test_settings_that_are_wrong_change_nothing(running: Running, root: Path, caplog: pytest.LogCaptureFixture) -> None:
    reload(running, "--adapter", root / "intent")

    def wrong() -> argparse.Namespace:
        raise ConfigurationError("a.yaml: unknown key 'prot'")

    Reloader(running, settings(), wrong)()
    Reloader(running, settings(), lambda: read_args(["bundle", "--adapter-dir", str(root / "nowhere")]))()
    assert names(running) == ["tone", "intent"]
    told = "nothing was reloaded, and the server runs on as it was: "
    assert f"{told}a.yaml: unknown key 'prot'" in caplog.text
    assert f"{told}argument --adapter-dir: there is no folder {root / 'nowhere'}" in caplog.text


def test_settings_that_wait_for_the_next_start_are_named(running: Running, caplog: pytest.LogCaptureFixture) -> None:
    reload(running, "--port", "1", "--max-queued-requests", "2")
    assert "take effect at the next start: port, max-queued-requests" in caplog.text


def test_every_reload_is_of_a_setting() -> None:
    assert RELOADS.keys() <= vars(settings()).keys()
