import builtins

import nltk
import pytest

from adamix_train.errors import MetricError
from adamix_train.evaluation.generate import GeneratedText
from adamix_train.evaluation.score import score
from adamix_train.metrics import texts

SAID = ["the cat sat on the mat today", "a dog ran far away from here"]


REFERENCES = [["the cat sat on the mat today", "a cat was on a mat"], ["the dog ran away from here"]]


def test_a_metric_whose_data_is_missing_is_reported_and_the_others_are_computed(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(nltk.data, "path", [])
    monkeypatch.setattr(builtins, "print", lambda *_: None)
    with pytest.raises(MetricError, match=r"python -m nltk\.downloader wordnet"):
        texts.meteor(SAID, REFERENCES)
    written = [GeneratedText(f"{row}", text, REFERENCES[row]) for row, text in enumerate(SAID)]
    assert score(written, ("meteor", "bleu")).keys() == {"bleu"}
    assert "meteor was not computed: METEOR needs WordNet" in caplog.text
