import asyncio
from pathlib import Path

import pytest

from serve.adapter_folder import MAX_PATH, folder_below
from serve.adapter_loading import AdapterLoading
from serve.classification.async_classifier import AsyncClassifier
from serve.classification.classifier import Classifier
from serve.errors import InputError, NotAllowed
from tests.serve.conftest import Reference, write_adapter, write_bundle


@pytest.fixture
def root(tmp_path: Path, reference: Reference) -> Path:
    write_adapter(tmp_path / "adapters" / "intent", reference, "intent")
    return tmp_path / "adapters"


def test_the_folder_itself_is_no_adapter(root: Path) -> None:
    assert folder_below(root, "intent") == (root / "intent").resolve()
    for path in (".", "intent/..", "..", str(root)):
        with pytest.raises(InputError, match="is not below"):
            folder_below(root, path)


def test_a_long_path_is_quoted_in_part(root: Path) -> None:
    with pytest.raises(InputError) as error:
        folder_below(root, "x/" * 100_000)
    assert len(str(error.value)) < MAX_PATH + 100


def test_without_a_folder_nothing_is_loaded_or_unloaded(classifier: Classifier) -> None:
    loading = AdapterLoading(engine=AsyncClassifier(classifier), root=None)
    for work in (loading.load("intent", "intent", replace=True), loading.unload("intent")):
        with pytest.raises(NotAllowed, match="start adamix-serve with --adapter-dir FOLDER"):
            asyncio.run(work)
    assert "intent" in classifier.cards


def test_errors_tell_the_path_as_the_client_named_it(tmp_path: Path, root: Path, reference: Reference) -> None:
    bank = Classifier(write_bundle(tmp_path / "bank", reference, ["tone"]), provider="cpu", threads=1)
    weights = root / "intent" / "adapter.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1])
    loading = AdapterLoading(engine=AsyncClassifier(bank), root=root)
    for name, message in (
        ("intent", "intent/adapter.safetensors is damaged: its sha256 does not match; export or copy it again"),
        ("mood", "there is no adapter folder 'mood' below --adapter-dir"),
    ):
        with pytest.raises(InputError) as error:
            asyncio.run(loading.load(name, name, replace=True))
        assert str(error.value) == message


def test_a_merged_bundle_does_not_tell_where_it_lies(
    classifier: Classifier, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(classifier.registry, "bank", None)
    loading = AdapterLoading(engine=AsyncClassifier(classifier), root=root)
    with pytest.raises(InputError, match=r"^this bundle is merged: its graph takes no other adapter; export a bank$"):
        asyncio.run(loading.load("intent", "intent", replace=True))
