import pytest

from adamix_train.metrics import texts

SAID = ["the cat sat on the mat today", "a dog ran far away from here"]


REFERENCES = [["the cat sat on the mat today", "a cat was on a mat"], ["the dog ran away from here"]]


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
