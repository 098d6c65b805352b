from pathlib import Path

import numpy as np
import pytest

from serve.bundle.reader import Bundle, open_bundle, with_adapters
from serve.classification.classifier import Classifier
from serve.errors import BundleError, InputError, UnknownAdapter
from tests.serve.conftest import CANARY, Reference, relist, write_adapter, write_bundle

TEXTS = ["good", "the bill is very late", "bad", "is it good"]


def test_each_row_of_a_batch_goes_through_its_own_adapter(classifier: Classifier, reference: Reference) -> None:
    names = ["tone", "intent", "intent", "tone"]
    predictions = classifier(TEXTS, adapter=names)
    for text, name, prediction in zip(TEXTS, names, predictions, strict=True):
        ids = classifier.encode(text, name, truncate=True).input_ids
        np.testing.assert_allclose(prediction.logits, reference.logits(ids, name), atol=1e-4)
        assert prediction.adapter == name
        assert prediction.sha256 == classifier.cards[name].sha256


def test_a_batch_answers_as_each_text_alone(classifier: Classifier) -> None:
    together = classifier(TEXTS, adapter="intent")
    alone = [classifier(text, adapter="intent")[0] for text in TEXTS]
    for one, other in zip(together, alone, strict=True):
        np.testing.assert_allclose(one.logits, other.logits, atol=1e-4)


def test_many_texts_come_back_in_order(classifier: Classifier) -> None:
    texts = [" ".join(["good"] * (1 + index % 6)) for index in range(900)]
    names = ["tone" if index % 3 else "intent" for index in range(900)]
    for text, name, prediction in zip(texts[::97], names[::97], classifier(texts, adapter=names)[::97], strict=True):
        np.testing.assert_allclose(prediction.logits, classifier(text, adapter=name)[0].logits, atol=1e-4)


def test_batches_side_by_side_answer_as_one_after_another(bundle: Bundle, classifier: Classifier) -> None:
    texts = ["good", "the bill is late", "bad " * 7, "very good", "late"] * 8
    names = ["tone", "intent"] * 20
    beside = Classifier(bundle, provider="cpu", streams=3, batch_tokens=16)
    for found, expected in zip(beside(texts, adapter=names), classifier(texts, adapter=names), strict=True):
        np.testing.assert_allclose(found.logits, expected.logits, atol=1e-5)
        assert found.adapter == expected.adapter


def test_scores_are_probabilities_over_the_adapters_own_labels(classifier: Classifier) -> None:
    tone, intent = classifier(["good", "good"], adapter=["tone", "intent"])
    assert (len(tone.scores), len(intent.scores)) == (2, 3)
    assert tone.scores.sum() == pytest.approx(1)
    assert tone.label == tone.labels[int(tone.scores.argmax())]


@pytest.mark.gpu
def test_cuda_answers_as_the_cpu_does(bundle: Bundle, classifier: Classifier) -> None:
    names = ["tone", "intent", "intent", "tone"]
    cuda = Classifier(bundle, provider="cuda")(TEXTS, adapter=names)
    for one, other in zip(cuda, classifier(TEXTS, adapter=names), strict=True):
        np.testing.assert_allclose(one.logits, other.logits, atol=1e-3)


def test_no_text_gives_no_answer(classifier: Classifier) -> None:
    assert classifier([], adapter="tone") == []


def test_an_unknown_adapter_is_never_answered_by_the_base(classifier: Classifier) -> None:
    with pytest.raises(UnknownAdapter, match="no adapter 'mood' here; there are tone, intent"):
        classifier("good", adapter="mood")
    with pytest.raises(InputError, match="name an adapter: tone, intent"):
        classifier("good")


def test_a_single_adapter_need_not_be_named(tmp_path: Path, reference: Reference) -> None:
    folder = write_bundle(tmp_path / "bundle", reference, ["tone"])
    assert Classifier(folder, provider="cpu")("good")[0].adapter == "tone"


def test_an_adapter_that_fails_its_canary_is_not_served(tmp_path: Path, reference: Reference) -> None:
    folder = write_bundle(tmp_path / "bundle", reference, ["tone"])
    logits = [(reference.logits(ids, "intent") + 0.01).tolist() for ids in CANARY]
    write_adapter(tmp_path / "intent", reference, "intent", canary_logits=logits)
    bundle = with_adapters(open_bundle(folder), [tmp_path / "intent"])
    with pytest.raises(BundleError, match="intent does not give the logits that it gave in PyTorch"):
        Classifier(bundle, provider="cpu")


def test_a_graph_with_other_edges_than_the_manifest_is_refused(tmp_path: Path, reference: Reference) -> None:
    whole = open_bundle(write_bundle(tmp_path / "one", reference, ["tone"]))
    folder = write_bundle(tmp_path / "two", reference, ["tone"], inputs=whole.manifest.inputs[:-1])
    with pytest.raises(BundleError, match="does not have the inputs and outputs"):
        Classifier(folder, provider="cpu")


def test_texts_pairs_and_scores_share_a_batch(mixed: Classifier, reference: Reference) -> None:
    rows = {"tone": "good", "match": ("good", "the bill"), "grade": "bad", "intent": "the bill"}
    answers = mixed(list(rows.values()), adapter=list(rows))
    for (name, text), answer in zip(rows.items(), answers, strict=True):
        ids = mixed.encode(text, name, truncate=True).input_ids
        np.testing.assert_allclose(answer.logits, reference.logits(ids, name), atol=1e-4)
    assert answers[2].scores.tolist() == answers[2].logits.tolist()
    assert answers[1].scores.sum() == pytest.approx(1)


def test_a_token_without_an_embedding_is_refused_before_it_is_run(bundle_folder: Path) -> None:
    (bundle_folder / "config.json").write_text('{"vocab_size": 10}')
    relist(bundle_folder)
    classifier = Classifier(bundle_folder, provider="cpu", threads=1)
    message = "the text has the token 'very', number 10, and the base has embeddings for 10: leave it out"
    for windows in (False, True):
        with pytest.raises(InputError, match=message):
            classifier("the bill is very late", adapter="tone", windows=windows)
        assert classifier("the bill is late", adapter="tone", windows=windows)[0].adapter == "tone"
