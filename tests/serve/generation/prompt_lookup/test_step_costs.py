"""Costs are those that were measured, and before that those of the precision."""

import pytest

from serve.generation.prompt_lookup.step_costs import FLAT, FLATTEST, KNOWN, STEEP, StepCosts


def measured(costs: StepCosts, seconds: float, *, rows: int = 1, tokens: int = 1) -> None:
    """Count steps of so many seconds."""
    for _ in range(KNOWN):
        (costs.alone[tokens] if rows == 1 else costs.together[rows]).append(seconds)


def test_before_anything_is_measured_costs_are_those_of_the_precision() -> None:
    assert [StepCosts("fp32").row(count) for count in range(1, 9)] == list(FLAT)
    assert [StepCosts("w8a8").row(count) for count in range(1, 9)] == list(FLATTEST)
    assert [StepCosts("int4").row(count) for count in range(1, 9)] == list(STEEP)
    assert StepCosts("int4").batch(4) == STEEP[3]
    assert StepCosts("int4").row(10) == pytest.approx(STEEP[7] + 2 * (STEEP[7] - STEEP[6]))


def test_measured_costs_are_times_of_a_step_of_one_token() -> None:
    costs = StepCosts("int4")
    measured(costs, 0.02, tokens=4)
    assert costs.row(4) == STEEP[3], "a step of one token is not known yet"
    measured(costs, 0.01)
    assert costs.row(4) == pytest.approx(2.0)
    measured(costs, 0.03, rows=4)
    assert costs.batch(4) == pytest.approx(3.0)
    with costs.timed(rows=1, tokens=4):
        pass
    assert costs.row(4) == 1.0, "no step costs less than one of a token"
