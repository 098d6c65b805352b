"""Beam search over given logits, by hand; the integration tests compare it with transformers'."""

import numpy as np
import pytest

from serve.generation.sampling.beam_search import BeamSearch
from serve.sampling_params import SamplingParams

END = 0


def logits(*rows: list[float]) -> np.ndarray:
    """Logits with the given probabilities."""
    return np.log(np.array(rows, np.float32))


def test_beams_continue_the_best_sums_of_log_probabilities() -> None:
    search = BeamSearch([7], SamplingParams(num_beams=2), [END], 5)
    assert search.advance(logits([0.01, 0.6, 0.39])) == [0, 0]
    assert search.beams == [[1], [2]]
    sources = search.advance(logits([0.01, 0.5, 0.49], [0.02, 0.97, 0.01]))
    assert sources == [1, 0] and search.beams == [[2, 1], [1, 1]]
    assert np.exp(search.scores).tolist() == pytest.approx([0.39 * 0.97, 0.6 * 0.5], rel=1e-5)


def test_a_hypothesis_that_ends_is_set_aside_with_its_score_by_length() -> None:
    search = BeamSearch([7], SamplingParams(num_beams=2, length_penalty=2.0), [END], 5)
    search.advance(logits([0.05, 0.8, 0.15]))
    assert not search.finished
    search.advance(logits([0.9, 0.05, 0.05], [0.05, 0.9, 0.05]))
    (best,) = search.finished
    assert best.tokens == [1, END] and best.score == pytest.approx(np.log(0.8 * 0.9) / 2**2, rel=1e-5)


def test_a_search_goes_on_while_a_running_beam_may_become_better() -> None:
    search = BeamSearch([7], SamplingParams(num_beams=2), [END], 5)
    search.advance(logits([0.45, 0.5, 0.05]))
    assert not search.done and len(search.finished) == 1
    search.advance(logits([0.01, 0.98, 0.01], [0.98, 0.01, 0.01]))
    assert not search.done, "one finished hypothesis of two"


def test_the_last_token_ends_every_beam() -> None:
    search = BeamSearch([7], SamplingParams(num_beams=2), [END], 1)
    search.advance(logits([0.1, 0.6, 0.3]))
    assert search.done and [one.tokens for one in search.finished] == [[1], [2]]
