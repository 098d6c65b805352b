from benchmarks.gpu.goals import TARGETS, goals_of


def test_the_goals_are_those_of_the_issue() -> None:
    values = {key: (target.goal, target.better) for key, target in TARGETS.items()}
    assert values["large_share"] == (0.5, "higher")
    assert values["bank_houlsby"] == values["bank_lora"] == (1.10, "lower")
    assert values["slot_write_smollm2"] == (0.2, "lower")
    assert values["decode_batch_gpt2-medium"] == (40.0, "higher")


def test_a_goal_without_a_figure_is_not_measured_and_not_met() -> None:
    goals = dict(zip(TARGETS, goals_of({"large_share": 0.6, "mixed": 1.2}), strict=True))
    assert goals["large_share"].met and not goals["mixed"].met
    assert goals["bank_lora"].value is None
    assert "MISSED" in str(goals["bank_lora"]) and "not measured" in str(goals["bank_lora"])
