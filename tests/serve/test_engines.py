from pathlib import Path
from typing import Any

import pytest

from serve.classification.async_classifier import AsyncClassifier
from serve.engines import ENGINES, EngineKind, make_engine
from serve.errors import BundleError
from tests.fixtures.members import bundle_with_members
from tests.fixtures.toy_engine import ToyEngine
from tests.serve.conftest import Reference, write_bundle


def make_toy(bundle: object, limits: Any, options: Any) -> ToyEngine:
    return ToyEngine(**limits)


@pytest.fixture
def toy_bundle(tmp_path: Path, reference: Reference, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setitem(ENGINES, "toy", EngineKind(make=make_toy, limits=frozenset({"ending"})))
    return write_bundle(tmp_path / "toy", reference, ["tone"], task="toy")


def test_a_new_engine_is_one_entry(toy_bundle: Path) -> None:
    engine = make_engine(toy_bundle, {"ending": "!"})
    assert isinstance(engine, ToyEngine)
    assert engine.ending == "!"


def test_a_limit_that_is_none_takes_the_engines_default(toy_bundle: Path) -> None:
    engine = make_engine(toy_bundle, {"ending": None, "max_batch_tokens": None})
    assert isinstance(engine, ToyEngine)
    assert engine.ending == ""


def test_a_limit_of_another_engine_is_refused_by_its_flag(toy_bundle: Path) -> None:
    with pytest.raises(BundleError, match=r"--max-batch-tokens means nothing for .*toy, whose task is toy"):
        make_engine(toy_bundle, {"max_batch_tokens": 8})


def test_an_unknown_task_lists_the_known_ones(tmp_path: Path, reference: Reference) -> None:
    folder = write_bundle(tmp_path / "bundle", reference, ["tone"], task="translation")
    with pytest.raises(BundleError, match=r"has the task 'translation'; adamix-serve has text-classification, text-g"):
        make_engine(folder)


def test_a_classifier_gets_its_limits_and_options(bundle_folder: Path) -> None:
    engine = make_engine(bundle_folder, {"max_batch_tokens": 64, "timeout": 2.0, "streams": 1}, provider="cpu", slots=1)
    assert isinstance(engine, AsyncClassifier)
    assert (engine.limits.max_batch_tokens, engine.limits.timeout, engine.classifier.streams) == (64, 2.0, 1)
    assert engine.info().slots == 1


def test_a_classifier_is_an_ensemble_where_its_members_are_there(tmp_path: Path, reference: Reference) -> None:
    bundle = bundle_with_members(tmp_path, reference, ["tone"], of=["tone"])
    engine = make_engine(bundle, {"ensemble": True}, provider="cpu")
    assert isinstance(engine, AsyncClassifier)
    assert engine.classifier.ensemble
    assert engine.info().ensemble
