import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from benchmarks.generate import OPENVINO_DEFAULT, OPENVINO_INT4, OURS, OURS_INT4, OURS_W8A8, TRANSFORMERS
from benchmarks.perplexity import BATCH, findings_of, loss_of, lost, perplexity, score_ours
from benchmarks.support.report import Absent
from serve.bundle.reader import open_bundle
from tests.fixtures.hand_computed_decoder import random_decoder, write_decoder_bundle

pytestmark = pytest.mark.usefixtures("peer_versions")


def test_a_loss_is_the_negative_logarithm_of_the_probability() -> None:
    logits = np.log(np.array([[1, 2, 3, 4], [4, 4, 1, 1]], np.float32))
    np.testing.assert_allclose(loss_of(logits, [3, 2]), [-math.log(0.4), -math.log(0.1)], rtol=1e-6)
    np.testing.assert_allclose(loss_of(logits + np.float32(1e4), [3, 2]), [-math.log(0.4), -math.log(0.1)], rtol=1e-3)


def test_perplexity_counts_every_token_alike() -> None:
    assert perplexity([[math.log(2)] * 3, [math.log(32)]]) == pytest.approx(4.0)


def test_what_is_lost_is_relative_and_its_error_is_of_the_mean_over_texts() -> None:
    """Three texts of two tokens: excesses of 0.1, 0.2 and 0.3, a mean of 0.1 a token, an error of 0.1/sqrt(3)/2."""
    reference = [[1.0, 2.0]] * 3
    share, error = lost([[1.1, 2.0], [1.1, 2.1], [1.2, 2.1]], reference)
    assert share == pytest.approx(math.exp(0.1) - 1)
    assert error == pytest.approx(math.exp(0.1) * 0.1 / math.sqrt(3) / 2)
    assert lost(reference, reference) == (0.0, 0.0)


def test_ours_scores_texts_of_all_lengths_as_a_computation_by_hand_does(tmp_path: Path) -> None:
    decoder = random_decoder()
    bundle = open_bundle(write_decoder_bundle(tmp_path / "bundle", decoder))
    (name, adapter), *_ = bundle.adapters.items()
    bundle = replace(bundle, adapters={name: adapter})
    rows = [[3 + index % 5, *range(4, 5 + index % 3)] for index in range(BATCH + 1)]
    found = score_ours(bundle, {"rows": rows})
    for row, losses in zip(rows, found, strict=True):
        logits = np.stack([decoder.logits(row[:at], name) for at in range(1, len(row))])
        np.testing.assert_allclose(losses, loss_of(logits, row[1:]), rtol=1e-4)


def test_each_side_is_held_to_the_reference_and_to_its_peer() -> None:
    losses = {
        OURS: [[1.0, 1.0]],
        OURS_W8A8: [[1.0, 1.04]],
        OURS_INT4: [[1.1, 1.1]],
        TRANSFORMERS: [[1.0, 1.0]],
        OPENVINO_DEFAULT: [[1.0, 1.002]],
        OPENVINO_INT4: [[1.1, 1.06]],
    }
    two_texts = {name: [*one, *one] for name, one in losses.items()}
    found = findings_of(two_texts, [Absent(peer="vllm default", reason="gone")])
    assert [goal.met for goal in found.goals] == [True, False, True, False, True, False]
    assert "adamix int4 by openvino_genai int4" in found.worst
    assert [row["tokens"] for row in found.rows] == [4] * 6
