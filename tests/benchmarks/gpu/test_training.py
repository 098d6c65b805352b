import pytest

from benchmarks.gpu.setting import Setting
from benchmarks.gpu.training import measure_training


@pytest.mark.slow
def test_a_rehearsal_steps_through_both_models(made: Setting) -> None:
    outcome = measure_training(made)
    assert [(row["model"], row["side"]) for row in outcome.rows] == [
        (model, side) for model in ("minilm", "roberta-large") for side in ("peft_lora", "adamix", "adamix_consistency")
    ]
    assert outcome.rows[0]["case"] == "bf16, 2x8"
