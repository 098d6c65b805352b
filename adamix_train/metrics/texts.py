"""Metrics of generated texts, each compared with all references of its input, as in the E2E challenge.

Ranges are those of the libraries: BLEU and chrF 0 to 100 (sacrebleu), NIST from 0 up (nltk), METEOR and ROUGE-L 0 to 1
(nltk, rouge-score), CIDEr 0 to 10 (pycocoevalcap).
"""

from collections.abc import Sequence
from itertools import zip_longest
from typing import Any

from adamix_train.errors import MetricError

Texts = Sequence[str]
References = Sequence[Sequence[str]]


def bleu(generated: Texts, references: References) -> float:
    """Return the corpus BLEU of Papineni et al. (2002), lower-cased as the E2E and WebNLG scripts do."""
    import sacrebleu

    return float(sacrebleu.corpus_bleu(list(generated), _columns(references), lowercase=True).score)


def chrf(generated: Texts, references: References) -> float:
    """Return the corpus chrF of Popović (2015)."""
    import sacrebleu

    return float(sacrebleu.corpus_chrf(list(generated), _columns(references)).score)


def nist(generated: Texts, references: References) -> float:
    """Return the corpus NIST of Doddington (2002), up to 5-grams."""
    from nltk.translate.nist_score import corpus_nist

    try:
        return float(corpus_nist(list(map(_tokens, references)), [_words(text) for text in generated]))
    except ZeroDivisionError:  # nltk divides by the number of matching n-grams
        return 0.0


def meteor(generated: Texts, references: References) -> float:
    """Return the mean METEOR of Banerjee and Lavie (2005); raise MetricError if WordNet is not installed."""
    from nltk.corpus import wordnet
    from nltk.translate.meteor_score import meteor_score

    try:
        wordnet.ensure_loaded()
    except LookupError as error:
        raise MetricError("METEOR needs WordNet: python -m nltk.downloader wordnet") from error
    return _mean(
        [meteor_score(_tokens(texts), _words(text)) for text, texts in zip(generated, references, strict=True)]
    )


def rouge_l(generated: Texts, references: References) -> float:
    """Return the mean over inputs of the best ROUGE-L F1 (Lin, 2004) against a reference."""
    from rouge_score.rouge_scorer import RougeScorer

    scorer = RougeScorer(["rougeL"])
    best = [
        scorer.score_multi(texts, text)["rougeL"].fmeasure for text, texts in zip(generated, references, strict=True)
    ]
    return _mean(best)


def cider(generated: Texts, references: References) -> float:
    """Return the corpus CIDEr-D of Vedantam et al. (2015)."""
    from pycocoevalcap.cider.cider import Cider

    expected = {row: [" ".join(_words(text)) for text in texts] for row, texts in enumerate(references)}
    found = {row: [" ".join(_words(text))] for row, text in enumerate(generated)}
    return float(Cider().compute_score(expected, found)[0])


def _columns(references: References) -> list[Any]:
    """Return references in sacrebleu's layout: the first of every input, then the second, and so on."""
    return [list(column) for column in zip_longest(*references)]


def _words(text: str) -> list[str]:
    from nltk.tokenize import wordpunct_tokenize

    return [str(word) for word in wordpunct_tokenize(text.lower())]


def _tokens(texts: Texts) -> list[list[str]]:
    return [_words(text) for text in texts]


def _mean(values: Sequence[float]) -> float:
    return float(sum(values) / len(values))
