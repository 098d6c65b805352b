"""Two bundles of classifiers and a toy that generates, as one engine."""

import asyncio
from collections.abc import Iterator
from pathlib import Path

import httpx
import numpy as np
import pytest

from serve.bundle.reader import open_bundle, with_adapters_of_each
from serve.classification.async_classifier import AsyncClassifier
from serve.classification.classifier import Classifier
from serve.combined_engine import CombinedEngine
from serve.engine import Capability
from serve.engines import make_engines
from serve.errors import BundleError, InputError, UnknownAdapter
from serve.http.app import make_app
from serve.requests import ClassificationRequest, GenerationRequest
from tests.fixtures.toy_engine import ToyEngine
from tests.serve.conftest import LABELS, Reference, live_app, write_adapter, write_bundle


def classifier(folder: Path, reference: Reference, *names: str) -> Classifier:
    return Classifier(write_bundle(folder, reference, list(names)), provider="cpu", threads=1)


@pytest.fixture
def engine(tmp_path: Path, reference: Reference) -> CombinedEngine:
    return CombinedEngine(
        [
            AsyncClassifier(classifier(tmp_path / "first", reference, "tone", "match")),
            AsyncClassifier(classifier(tmp_path / "second", reference, "intent")),
            ToyEngine(),
        ]
    )


@pytest.fixture
def client(engine: CombinedEngine) -> Iterator[httpx.Client]:
    with live_app(make_app(engine)) as client:
        yield client


def ids(text: str) -> list[int]:
    words = {"good": 4, "bad": 5, "late": 6}
    return [1, *(words[word] for word in text.split()), 2]


def test_the_rows_of_a_request_go_to_the_bundles_that_have_their_adapters(
    client: httpx.Client, reference: Reference
) -> None:
    names, texts = ["intent", "tone", "intent", "tone"], ["good", "bad", "late", "good bad"]
    asked = {"inputs": [[text] for text in texts], "adapter": names, "raw_scores": True}
    response = client.post("/predict", json=asked)
    assert response.headers["x-adapter"] == "intent,tone"
    for scores, name, text in zip(response.json(), names, texts, strict=True):
        found = {one["label"]: one["score"] for one in scores}
        expected = reference.logits(ids(text), name)
        np.testing.assert_allclose([found[label] for label in LABELS[name]], expected, atol=1e-4)


def test_one_server_classifies_and_generates(client: httpx.Client) -> None:
    completion = client.post("/v1/completions", json={"model": "toy", "prompt": "abc"}).json()
    assert completion["choices"][0]["text"] == "ABC"
    listed = {model["id"]: model["parent"] for model in client.get("/v1/models").json()["data"]}
    assert set(listed) == {"tone", "match", "intent", "toy"}
    assert listed["toy"] == "toy" != listed["tone"]
    bundles = client.get("/info").json()["bundles"]
    assert [list(one["adapters"]) for one in bundles] == [["tone", "match"], ["intent"], ["toy"]]
    assert client.post("/v2/models/toy/generate", json={"text_input": "abc"}).json()["text_output"] == "ABC"
    assert client.post("/v2/models/tone/generate", json={"text_input": "abc"}).status_code == 422
    assert [one["name"] for one in client.post("/v2/repository/index").json()] == ["adamix", *listed]
    metrics = client.get("/metrics").text
    assert "adamix_adapters 4.0" in metrics
    assert 'adamix_provider{device="cpu",provider="CPUExecutionProvider"} 1.0' in metrics


@pytest.mark.parametrize(
    ("path", "asked", "status", "message"),
    [
        ("/predict", {"inputs": "good", "adapter": "mood"}, 404, "there are tone, match, intent"),
        ("/predict", {"inputs": "good", "adapter": "toy"}, 404, "there is no adapter 'toy' here that does this"),
        ("/predict", {"inputs": "good"}, 422, "name an adapter: tone, match, intent"),
        ("/predict", {"inputs": [["good"], ["bad"]], "adapter": ["match", "intent"]}, 422, "match takes pairs"),
        ("/v1/completions", {"model": "tone", "prompt": "a"}, 404, "there are toy"),
    ],
)
def test_a_request_that_no_bundle_can_answer_is_told_so(
    client: httpx.Client, path: str, asked: dict[str, object], status: int, message: str
) -> None:
    response = client.post(path, json=asked)
    assert response.status_code == status
    assert message in response.text


def test_a_model_and_its_tokenizer_are_found_by_name(engine: CombinedEngine) -> None:
    assert [getattr(engine.model(name), "name", None) for name in ("intent", "toy", "nobody")] == [
        "intent",
        "toy",
        None,
    ]
    found = asyncio.run(engine.codec("intent").tokenize("good late"))
    assert list(found.ids) == ids("good late")
    assert asyncio.run(engine.codec("intent").detokenize([4, 6])) == "good late"
    with pytest.raises(InputError, match="name an adapter: tone, match, intent"):
        engine.codec(None)
    with pytest.raises(UnknownAdapter, match="there is no adapter 'nobody' here"):
        engine.codec("nobody")


def test_it_drains_and_fails_as_a_whole(engine: CombinedEngine) -> None:
    toy = engine.engines[-1]
    assert isinstance(toy, ToyEngine)

    async def run() -> None:
        await engine.start()
        engine.prepare_to_drain()
        assert not engine.stats().draining
        await engine.drain()

    asyncio.run(run())
    assert toy.calls == ["start", "prepare_to_drain", "drain"]
    assert engine.stats().draining
    first = engine.engines[0]
    assert isinstance(first, AsyncClassifier)
    first.failure = "the GPU is lost"
    assert engine.stats().failure == "the GPU is lost"


def test_adapters_are_loaded_where_their_base_is(engine: CombinedEngine, tmp_path: Path, reference: Reference) -> None:
    write_adapter(tmp_path / "grade", reference, "grade")
    write_adapter(tmp_path / "other", reference, "grade", name="other", base_sha256="f" * 64)
    write_adapter(tmp_path / "again", reference, "intent")
    assert engine.load(tmp_path / "grade", name="grade").name == "grade"
    assert engine.serves("grade")
    with pytest.raises(BundleError, match=r"was trained on a base with sha256 ffffffffffff.*a toy takes no adapters"):
        engine.load(tmp_path / "other")
    with pytest.raises(BundleError, match="another bundle has an adapter called intent"):
        engine.load(tmp_path / "again")
    assert [model.name for model in engine.models()] == ["tone", "match", "grade", "intent", "toy"]
    engine.unload("grade")
    assert not engine.serves("grade")
    with pytest.raises(UnknownAdapter, match="'grade'"):
        engine.unload("grade")


def test_two_adapters_of_one_name_are_refused(tmp_path: Path, reference: Reference) -> None:
    engines = [AsyncClassifier(classifier(tmp_path / part, reference, "tone")) for part in ("first", "second")]
    with pytest.raises(BundleError, match="two bundles have an adapter called tone: rename one"):
        CombinedEngine(engines)


def test_a_request_for_texts_is_one_bundles(engine: CombinedEngine) -> None:
    other = ToyEngine()
    other.serves = lambda name: name == "other"  # type: ignore[method-assign]
    other.models = list  # type: ignore[method-assign, assignment]
    both = CombinedEngine([*engine.engines, other])
    assert both.capabilities == {Capability.CLASSIFY, Capability.GENERATE}
    with pytest.raises(InputError, match="are of several bundles"):
        asyncio.run(both.generate(GenerationRequest(prompts=["a", "b"], adapters=["toy", "other"])))


def test_texts_whose_neighbours_fail_are_cancelled(engine: CombinedEngine) -> None:
    cancelled: list[bool] = []

    async def waits(request: ClassificationRequest) -> None:
        try:
            await asyncio.sleep(60)
        except asyncio.CancelledError:
            cancelled.append(True)
            raise

    async def fails(request: ClassificationRequest) -> None:
        raise InputError("no")

    engine.engines[0].classify, engine.engines[1].classify = waits, fails  # type: ignore[attr-defined]
    request = ClassificationRequest(texts=["good", "bad"], adapters=["tone", "intent"])
    with pytest.raises(InputError, match="no"):
        asyncio.run(engine.classify(request))
    assert cancelled == [True]


def test_engines_share_the_threads_and_get_the_limits_that_they_know(tmp_path: Path, reference: Reference) -> None:
    bundles = [open_bundle(write_bundle(tmp_path / name, reference, [name])) for name in ("tone", "intent")]
    engine = make_engines(bundles, {"max_batch_tokens": 64}, provider="cpu", threads=1)
    assert isinstance(engine, CombinedEngine)
    assert [model.name for model in engine.models()] == ["tone", "intent"]
    with pytest.raises(BundleError, match="--prefill-chunk means nothing for any of these bundles"):
        make_engines(bundles, {"prefill_chunk": 8}, provider="cpu")
    assert not isinstance(make_engines(bundles[:1], provider="cpu", threads=1), CombinedEngine)


def test_standalone_adapters_go_to_the_bank_of_their_base(tmp_path: Path, reference: Reference) -> None:
    bundles = [open_bundle(write_bundle(tmp_path / name, reference, [name])) for name in ("tone", "intent")]
    write_adapter(tmp_path / "grade", reference, "grade")
    first, second = with_adapters_of_each(bundles, [tmp_path / "grade"])
    assert (list(first.adapters), list(second.adapters)) == (["tone", "grade"], ["intent"])
    write_adapter(tmp_path / "other", reference, "grade", base_sha256="f" * 64)
    with pytest.raises(BundleError, match="other was trained on a base that none of the banks has"):
        with_adapters_of_each(bundles, [tmp_path / "other"])
