from pathlib import Path

import numpy as np
import pytest

from serve.classify import Classifier
from serve.errors import BundleError, UnknownAdapter
from serve.loading import load_adapter
from tests.serve.conftest import CANARY, Reference, write_adapter, write_bundle


@pytest.fixture
def spare(tmp_path: Path, reference: Reference) -> Classifier:
    return Classifier(write_bundle(tmp_path / "spare", reference, ["tone"], spare_slots=1), provider="cpu", threads=1)


def test_an_adapter_that_is_loaded_later_answers_beside_the_others(
    spare: Classifier, tmp_path: Path, reference: Reference
) -> None:
    before = spare("good", adapter="tone")[0].logits
    write_adapter(tmp_path / "intent", reference, "intent")
    assert load_adapter(spare, tmp_path / "intent").name == "intent"
    tone, intent = spare(["good", "the bill"], adapter=["tone", "intent"])
    np.testing.assert_allclose(tone.logits, before, atol=1e-6)
    ids = spare.row("the bill", "intent", truncate=True).input_ids
    np.testing.assert_allclose(intent.logits, reference.logits(ids, "intent"), atol=1e-4)


def test_an_adapter_that_fails_its_canary_leaves_no_trace(
    spare: Classifier, tmp_path: Path, reference: Reference
) -> None:
    logits = [(reference.logits(ids, "intent") + 0.01).tolist() for ids in CANARY]
    write_adapter(tmp_path / "wrong", reference, "intent", canary_logits=logits)
    with pytest.raises(BundleError, match="intent does not give the logits"):
        load_adapter(spare, tmp_path / "wrong")
    with pytest.raises(UnknownAdapter):
        spare("good", adapter="intent")
    write_adapter(tmp_path / "right", reference, "intent")
    load_adapter(spare, tmp_path / "right")
    assert spare("good", adapter="intent")[0].adapter == "intent"


def test_an_adapter_that_does_not_belong_here_is_refused(
    spare: Classifier, tmp_path: Path, reference: Reference
) -> None:
    write_adapter(tmp_path / "foreign", reference, "intent", base_sha256="1" * 64)
    with pytest.raises(BundleError, match="was trained on a base with sha256 111111111111"):
        load_adapter(spare, tmp_path / "foreign")
    write_adapter(tmp_path / "again", reference, "tone")
    with pytest.raises(BundleError, match="two adapters called tone"):
        load_adapter(spare, tmp_path / "again")


def test_a_merged_bundle_takes_no_adapter(tmp_path: Path, reference: Reference) -> None:
    folder = write_bundle(tmp_path / "bundle", reference, ["tone"])
    engine = Classifier(folder, provider="cpu", threads=1)
    object.__setattr__(engine.bundle.manifest, "shape", "merged")
    write_adapter(tmp_path / "intent", reference, "intent")
    with pytest.raises(BundleError, match="is a merged bundle"):
        load_adapter(engine, tmp_path / "intent")
