import builtins

import nltk
import numpy as np
import pytest

from adamix_train.errors import MetricError
from adamix_train.evaluation.generate import GeneratedText
from adamix_train.evaluation.score import score
from adamix_train.metrics import labels, scores, texts

LOGITS = np.array([[2.0, 1.0], [0.0, 3.0], [1.0, 0.0], [0.0, 1.0]])
SAID = ["the cat sat on the mat today", "a dog ran far away from here"]
REFERENCES = [["the cat sat on the mat today", "a cat was on a mat"], ["the dog ran away from here"]]


def test_label_metrics_by_hand() -> None:
    truth = np.array([0, 1, 1, 1])  # predicted 0, 1, 0, 1
    assert labels.accuracy(LOGITS, truth) == 0.75
    assert labels.f1(LOGITS, truth) == pytest.approx(2 * 1 * (2 / 3) / (1 + 2 / 3))
    true_positive, true_negative, false_positive, false_negative = 2, 1, 0, 1
    by_hand = (true_positive * true_negative - false_positive * false_negative) / np.sqrt(2 * 3 * 1 * 2)
    assert labels.matthews(LOGITS, truth) == pytest.approx(by_hand)


def test_f1_of_more_than_two_labels_is_their_mean() -> None:
    assert labels.f1(np.eye(3), np.array([0, 1, 0])) == pytest.approx((2 / 3 + 1 + 0) / 3)


def test_correlations_by_hand() -> None:
    found, expected = np.array([[1.0], [2.0], [4.0]]), np.array([1.0, 3.0, 2.0])
    assert scores.pearson(found, expected) == pytest.approx(np.corrcoef(found[:, 0], expected)[0, 1])
    assert scores.spearman(found, expected) == pytest.approx(0.5)
    assert scores.pearson(np.ones((3, 1)), expected) == 0.0


def test_a_text_that_is_a_reference_has_the_highest_score() -> None:
    perfect = [reference[0] for reference in REFERENCES]
    assert texts.bleu(perfect, REFERENCES) == pytest.approx(100)
    assert texts.chrf(perfect, REFERENCES) == pytest.approx(100)
    assert texts.rouge_l(perfect, REFERENCES) == pytest.approx(1)
    for metric in (texts.bleu, texts.chrf, texts.nist, texts.rouge_l, texts.cider):
        assert metric(SAID, REFERENCES) < metric(perfect, REFERENCES)
        assert metric(["zzz", "yyy"], REFERENCES) < 1


def test_every_reference_of_an_input_counts() -> None:
    wordings = [[*REFERENCES[0]], [*REFERENCES[1], SAID[1]]]
    for metric in (texts.bleu, texts.rouge_l, texts.cider):
        assert metric(SAID, wordings) > metric(SAID, REFERENCES)


def test_rouge_l_by_hand() -> None:
    """Longest common subsequence of 3 words, of 4 written and 5 expected."""
    precision, recall = 3 / 4, 3 / 5
    by_hand = 2 * precision * recall / (precision + recall)
    assert texts.rouge_l(["one two four nine"], [["one two three four five"]]) == pytest.approx(by_hand)


def test_a_metric_whose_data_is_missing_is_said_and_the_others_are_computed(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(nltk.data, "path", [])
    monkeypatch.setattr(builtins, "print", lambda *_: None)
    with pytest.raises(MetricError, match=r"python -m nltk\.downloader wordnet"):
        texts.meteor(SAID, REFERENCES)
    written = [GeneratedText(f"{row}", text, REFERENCES[row]) for row, text in enumerate(SAID)]
    assert score(written, ("meteor", "bleu")).keys() == {"bleu"}
    assert "meteor was not computed: METEOR needs WordNet" in caplog.text
