"""A full disk, a read-only disk, a cache that cannot be read, a clock that is set back: the server serves on."""

import io
import os
import resource
import signal
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from serve.bundle.reader import open_bundle
from serve.classification.classifier import Classifier
from tests.reliability.conftest import Server, serve
from tests.serve.conftest import Reference, live_server

TONE = [1, 4, 2]
"""Tokens of the text that is asked for."""


def check_answer(server: Server, reference: Reference) -> None:
    """Assert that a server answers as the model by hand."""
    response = server.ask()
    assert response.status_code == 200
    logits = reference.logits(TONE, "tone")
    shares = np.exp(logits - logits.max())
    found = {one["label"]: one["score"] for one in response.json()}
    expected = dict(zip(["negative", "positive"], (shares / shares.sum()).tolist(), strict=True))
    assert found == pytest.approx(expected, abs=1e-5)


def no_space() -> None:
    """Let every write beyond a kilobyte of a file fail, in ONNX Runtime as in Python."""
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1024, 1024))


CALLS = ("os.mkdir", "os.open", "io.open", "os.scandir", "os.lstat", "os.rename", "os.chmod", "os.utime", "os.rmdir")
"""Calls that make, read and tidy the cache."""


def writable_by_all(folder: Path) -> None:
    folder.chmod(0o777)


def a_file(folder: Path) -> None:
    folder.rmdir()
    folder.write_text("no folder")


def a_loop(folder: Path) -> None:
    folder.rmdir()
    folder.symlink_to(folder)


def a_broken_link(folder: Path) -> None:
    folder.rmdir()
    folder.symlink_to(folder.with_name("nowhere"))


def test_a_server_starts_and_answers_on_a_full_disk(
    classifier_folder: Path, tmp_path: Path, reference: Reference
) -> None:
    with serve(classifier_folder, "--cache", tmp_path / "cache", limit=no_space) as server:
        check_answer(server, reference)
        assert any("the graph cache" in line and "is not used" in line for line in server.log)
    assert list((tmp_path / "cache").iterdir()) == [], "nothing half-written stays"
    assert server.process.returncode == 0


@pytest.mark.parametrize("harm", [writable_by_all, a_file, a_loop, a_broken_link], ids=lambda harm: harm.__name__)
def test_a_cache_that_cannot_be_used_is_told_and_not_used(
    harm: Callable[[Path], None], classifier_folder: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "cache").mkdir()
    harm(tmp_path / "cache")
    without, beside = (
        Classifier(classifier_folder, provider="cpu", threads=1, cache=cache)("good", adapter="tone")[0].logits
        for cache in (None, tmp_path / "cache")
    )
    np.testing.assert_array_equal(beside, without)
    assert f"the graph cache {tmp_path / 'cache'}" in caplog.text
    assert "is not used" in caplog.text


@pytest.mark.parametrize("number", [28, 13], ids=os.strerror)
@pytest.mark.parametrize("call", CALLS)
def test_no_call_that_fails_on_the_cache_keeps_a_bundle_from_opening(
    call: str, number: int, classifier_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cache, bundle = tmp_path / "cache", open_bundle(classifier_folder)
    expected = Classifier(bundle, provider="cpu", threads=1)("good", adapter="tone")[0].logits
    module, _, name = call.partition(".")
    ordinary = getattr({"os": os, "io": io}[module], name)

    def fail(path: object, *arguments: object, **options: object) -> object:
        if isinstance(path, str | os.PathLike) and Path(path).is_relative_to(cache):
            raise OSError(number, os.strerror(number), str(path))
        return ordinary(path, *arguments, **options)

    for _ in range(2):  # an empty cache, and perhaps one with the entry
        with monkeypatch.context() as patched:
            patched.setattr(call, fail)
            found = Classifier(bundle, provider="cpu", threads=1, cache=cache)("good", adapter="tone")[0].logits
        np.testing.assert_array_equal(found, expected)
        Classifier(bundle, provider="cpu", threads=1, cache=cache)


@pytest.mark.parametrize("hours", [-1, 1, -24 * 365 * 40])
def test_a_clock_that_is_set_changes_no_answer(
    hours: int, classifier_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    classifier = Classifier(open_bundle(classifier_folder), provider="cpu", threads=1, cache=tmp_path / "cache")
    ordinary = time.time
    with live_server(classifier) as client:
        before = client.post("/predict", json={"inputs": "good", "adapter": "tone"})
        monkeypatch.setattr("time.time", lambda: ordinary() + 3600 * hours)
        for _ in range(3):
            after = client.post("/predict", json={"inputs": "good", "adapter": "tone"})
            assert (after.status_code, after.json()) == (200, before.json())
        assert client.get("/metrics").status_code == client.get("/health").status_code == 200
    again = Classifier(open_bundle(classifier_folder), provider="cpu", threads=1, cache=tmp_path / "cache")
    np.testing.assert_array_equal(again("good", adapter="tone")[0].logits, classifier("good", adapter="tone")[0].logits)
