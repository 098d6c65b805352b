import errno
import gc
import shutil
import tempfile
from pathlib import Path

import pytest

from serve.adapters.private_copy import PREFIX
from serve.bundle.adapter import WEIGHTS
from serve.classification.classifier import Classifier
from tests.serve.conftest import Reference, write_adapter, write_bundle


@pytest.fixture
def temporary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "temporary").mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "temporary"))
    return tmp_path / "temporary"


@pytest.fixture
def narrow(tmp_path: Path, reference: Reference) -> Classifier:
    """One slot, and one adapter in host memory."""
    bundle = write_bundle(tmp_path / "bundle", reference, ["tone", "grade"])
    return Classifier(bundle, provider="cpu", threads=1, slots=1, host_adapters=1)


@pytest.mark.parametrize("harm", [shutil.rmtree, lambda folder: (folder / WEIGHTS).write_bytes(b"newer")])
def test_an_adapter_outlives_the_folder_that_it_was_loaded_from(
    harm: object, narrow: Classifier, temporary: Path, tmp_path: Path, reference: Reference
) -> None:
    write_adapter(tmp_path / "intent", reference, "intent")
    narrow.load(tmp_path / "intent")
    harm(tmp_path / "intent")  # type: ignore[operator]
    for _ in range(2):
        narrow("good", adapter="tone")
        assert not narrow.registry.places()["intent"].in_host_memory
        (found,) = narrow("good", adapter="intent")
        assert found.logits == pytest.approx(reference.logits([1, 4, 2], "intent"), abs=1e-5)
    assert len(list(temporary.glob(f"{PREFIX}*"))) == 1
    narrow.unload("intent")
    del found
    gc.collect()
    assert list(temporary.iterdir()) == [], "it goes with the adapter"


def no_room(*_: object, **__: object) -> str:
    raise OSError(errno.ENOSPC, "No space left on device")


def test_without_room_for_a_copy_the_weights_stay_in_memory(
    narrow: Classifier,
    tmp_path: Path,
    reference: Reference,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    write_adapter(tmp_path / "intent", reference, "intent")
    monkeypatch.setattr(tempfile, "mkdtemp", no_room)
    narrow.load(tmp_path / "intent")
    shutil.rmtree(tmp_path / "intent")
    narrow("good", adapter="tone")
    assert narrow.registry.places()["intent"].in_host_memory
    assert "the weights of adapter intent stay in memory" in caplog.text
    (found,) = narrow("good", adapter="intent")
    assert found.logits == pytest.approx(reference.logits([1, 4, 2], "intent"), abs=1e-5)


def test_an_engine_that_keeps_all_weights_in_memory_makes_no_copy(
    temporary: Path, tmp_path: Path, reference: Reference
) -> None:
    classifier = Classifier(write_bundle(tmp_path / "b", reference, ["tone"]), provider="cpu", threads=1)
    write_adapter(tmp_path / "intent", reference, "intent")
    classifier.load(tmp_path / "intent")
    assert list(temporary.iterdir()) == []
