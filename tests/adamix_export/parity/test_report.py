"""Differences and their bounds, as they are judged and stored."""

import json
from dataclasses import replace

import pytest

from adamix_export.errors import ParityError
from adamix_export.parity.bounds import Bounds
from adamix_export.parity.report import (
    PERPLEXITY,
    Parity,
    describe_bounds,
    describe_difference,
    read_reports,
    require_parity,
)

EXACT = Parity(
    rows=50,
    data="test.csv",
    max_difference=0.0,
    equal_labels=1.0,
    metric="accuracy",
    pytorch=0.9,
    onnx=0.9,
    provider="CPUExecutionProvider",
    bounds=Bounds(),
)


def test_a_report_is_read_as_it_was_stored() -> None:
    stored = json.loads(json.dumps({"tone": EXACT.as_dict()}))
    assert stored["tone"]["bounds"] == {"tolerance": 1e-4, "relative": None, "least_equal": 1.0, "most_lost": None}
    assert read_reports(stored) == {"tone": EXACT}


def test_a_report_without_bounds_has_the_default_ones() -> None:
    stored = {name: value for name, value in EXACT.as_dict().items() if name != "bounds"}
    assert read_reports({"tone": stored})["tone"].bounds == Bounds()


@pytest.mark.parametrize(
    ("found", "bounds", "passed"),
    [
        ({"max_difference": 2e-4}, {}, False),
        ({"max_difference": 8e-5, "spread": 1e-4}, {}, True),
        ({"max_difference": 8e-5, "spread": 1e-4}, {"relative": 1e-3}, False),
        ({"max_difference": 8e-5, "spread": 1.0}, {"relative": 1e-3}, True),
        ({"max_difference": 2e-4, "spread": 1.0}, {"relative": 1e-3}, False),
        ({"max_difference": 5e-7, "spread": 1e-6}, {"relative": 1e-3}, True),  # rounding is absolute
        ({"equal_labels": 0.98}, {"min_agreement": 0.99}, False),
        ({"equal_labels": 0.98}, {"min_agreement": 0.97}, True),
        ({"onnx": 0.885}, {"max_metric_drop": 0.005}, True),  # one of 50 inputs may always be lost
        ({"onnx": 0.87}, {"max_metric_drop": 0.005}, False),
        ({"onnx": 0.5}, {}, True),
        ({"onnx": None, "pytorch": None}, {"max_metric_drop": 0.005}, True),
    ],
)
def test_every_bound_is_kept(found: dict[str, float], bounds: dict[str, float], passed: bool) -> None:
    assert replace(EXACT, bounds=Bounds(**bounds), **found).passed is passed


def test_one_of_the_labelled_inputs_may_be_lost_and_not_one_of_all() -> None:
    bounds = Bounds(max_metric_drop=0.005)
    report = replace(EXACT, rows=52, labelled=50, pytorch=0.9, onnx=0.88, bounds=bounds)
    assert report.allowed_drop == 1 / 50
    assert report.passed


def test_bounds_are_told_with_the_name_of_their_metric() -> None:
    bounds = Bounds(tolerance=1.0, min_agreement=0.97, max_metric_drop=0.005)
    expected = "logits within 1e+00, at least 97% of labels equal, accuracy lower by at most 2.00%"
    assert describe_bounds(replace(EXACT, bounds=bounds)) == expected
    report = replace(EXACT, metric=PERPLEXITY, bounds=replace(bounds, min_agreement=0.0, max_metric_drop=0.03))
    assert describe_bounds(report) == "logits within 1e+00, perplexity higher by at most 3.00%"
    assert describe_bounds(replace(report, onnx=None)) == "logits within 1e+00"


def test_perplexity_is_lost_by_rising_and_relatively() -> None:
    report = replace(EXACT, metric=PERPLEXITY, pytorch=10.0, onnx=10.4, bounds=Bounds(max_metric_drop=0.03))
    assert report.metric_drop == pytest.approx(0.04)
    assert not report.passed
    assert describe_difference(report).endswith("perplexity lost 4.00% (at most 3.00%)")


def test_the_first_report_beyond_its_bounds_is_the_error() -> None:
    require_parity({"tone": EXACT})
    with pytest.raises(ParityError, match=r"^topic: .*logits differ by up to inf"):
        require_parity({"tone": EXACT, "topic": replace(EXACT, max_difference=float("inf"))})


def test_the_error_names_the_bound_that_was_missed() -> None:
    report = replace(EXACT, max_difference=8e-5, spread=0.02, bounds=Bounds(relative=1e-3))
    assert describe_difference(report).startswith("logits differ by up to 8.00e-05 (tolerance 2e-05)")
