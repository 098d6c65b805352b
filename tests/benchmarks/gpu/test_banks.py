import pytest

from benchmarks.gpu.banks import ALONE, BANK, MERGED, measure_banks, worst_of
from benchmarks.gpu.setting import Setting
from benchmarks.support.rounds import Timing


def test_the_worse_length_counts() -> None:
    timings = {
        "lora, 64x32": {MERGED: Timing([1.0]), BANK: Timing([1.05])},
        "lora, 64x128": {MERGED: Timing([2.0]), BANK: Timing([2.4])},
        "houlsby, 64x32": {MERGED: Timing([1.0]), BANK: Timing([1.5])},
    }
    assert worst_of("lora", timings) == pytest.approx(1.2)
    assert worst_of("houlsby", timings) == pytest.approx(1.5)


@pytest.mark.slow
def test_a_rehearsal_measures_both_kinds(prepared: Setting) -> None:
    outcome = measure_banks(prepared)
    assert [(row["case"], row["side"]) for row in outcome.rows] == [
        (f"{kind}, 3x8", side) for kind in ("lora", "houlsby") for side in (MERGED, BANK, ALONE)
    ]
    assert set(outcome.figures) == {"bank_lora", "bank_houlsby"}
