from pathlib import Path

import numpy as np
import pytest
import torch

from adamix_export.checkpoint.checkpoint import open_checkpoint
from benchmarks import members
from benchmarks.support.rounds import Timing
from tests.fixtures.random_checkpoints import make_encoder, mixture

MEAN = np.array([[0.9, 0.1], [0.4, 0.6], [0.3, 0.7]])
MEMBERS = np.array([[[0.9, 0.1], [0.9, 0.1]], [[0.2, 0.8], [0.9, 0.1]], [[0.3, 0.7], [0.1, 0.9]]])
ANSWERS = members.Answers(mean=MEAN, members=MEMBERS, dropout=MEMBERS)
"""The mean is wrong about the second text, where the members do not agree; their ensemble is right."""


def outcome() -> members.Outcome:
    rates = {members.SOFTMAX: 100.0, members.SPREAD: 20.0, members.ENSEMBLE: 25.0, members.ENTROPY: 25.0}
    return members.Outcome(
        home=ANSWERS, foreign=ANSWERS, targets=np.array([0, 0, 1]), rates={**rates, members.DROPOUT: 4.0}
    )


def test_measures_are_those_of_a_computation_by_hand() -> None:
    found = {name: measure(ANSWERS) for name, measure in members.MEASURES.items()}
    np.testing.assert_allclose(found["softmax"].uncertainty, [0.1, 0.4, 0.3])
    np.testing.assert_allclose(found["spread"].uncertainty, [0, 0.35, 0.1], atol=1e-9)
    np.testing.assert_allclose(found["ensemble"].uncertainty, [0.1, 0.45, 0.2])
    assert found["entropy"].uncertainty.argsort().tolist() == [0, 2, 1]
    for name, labels in {
        "softmax": [0, 1, 1],
        "spread": [0, 1, 1],
        "ensemble": [0, 0, 1],
        "dropout": [0, 0, 1],
    }.items():
        assert found[name].probabilities.argmax(-1).tolist() == labels


def test_a_row_compares_a_measure_with_the_softmax_of_the_mean() -> None:
    row = members.row_of("adamix", "spread", outcome())
    assert row["aurc"] == pytest.approx((0 + 0 + 1 / 3) / 3)
    assert (row["by_softmax"], row["by_plain"], row["auroc_mrpc"]) == (1.0, 0.2, 0.5)
    assert row["accuracy"] == pytest.approx(2 / 3)
    assert members.row_of("adamix", "ensemble", outcome())["aurc"] == 0


def test_both_ways_with_members_are_held_against_the_goal() -> None:
    findings = members.findings_of([members.row_of("adamix", name, outcome()) for name in members.MEASURES])
    assert [(goal.value, goal.met) for goal in findings.goals] == [(1.0, False), (0.0, True)]
    assert findings.worst.startswith("1.000 (adamix: AURC of the spread")


def test_the_entropy_costs_what_the_ensemble_costs() -> None:
    seconds = {members.SOFTMAX: 1.0, members.SPREAD: 5.0, members.ENSEMBLE: 4.0}
    rates = members.rates_of({members.HOME: {name: Timing([value]) for name, value in seconds.items()}}, 20)
    assert rates == {"softmax": 20, "spread": 4, "ensemble": 5, "entropy": 5}


def test_dropout_drops_while_mixtures_are_their_means(tmp_path: Path) -> None:
    base = make_encoder(tmp_path / "base", "bert", hidden_dropout_prob=0.5)
    source = open_checkpoint(str(mixture(tmp_path / "tone", base)))
    texts = ["the parcel was lovely", "bad"]
    samples = members.dropout_samples(source, texts)
    assert samples.shape == (2, members.SAMPLES, 2)
    assert samples.std(1).min() > 0
    with members.dropping_out(source.reference) as model, torch.inference_mode():
        for module in model.modules():
            if isinstance(module, torch.nn.Dropout):
                module.p = 0.0
        inputs = source.tokenizer(texts, padding=True, return_tensors="pt")
        dropped = model(**inputs).logits
    with torch.inference_mode():
        torch.testing.assert_close(dropped, source.reference(**inputs).logits, atol=1e-5, rtol=0)


def test_without_the_data_nothing_is_trained(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("benchmarks.support.data.DATA", tmp_path)
    with pytest.raises(SystemExit, match=r"benchmarks\.members: .* is missing: set ADAMIX_DATA to the folder"):
        members.main(["--runs", str(tmp_path / "runs")])
    assert not (tmp_path / "runs").exists()


def test_an_unknown_method_lists_the_known_ones(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        members.main(["--methods", "soup"])
    assert "unknown method 'soup'; known are shares, adamix, adamix-no-consistency" in capsys.readouterr().err
