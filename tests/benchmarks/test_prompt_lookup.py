from dataclasses import replace

import pytest

from benchmarks import prompt_lookup
from benchmarks.prompt_lookup import CASES, Written, compare, findings_of
from benchmarks.support.generation_sides import Ours
from benchmarks.support.rounds import Timing

FIRST = next(iter(CASES))


def test_rates_are_by_the_tokens_that_each_side_has_written() -> None:
    times = {("int4", FIRST, 1, side): Timing([value]) for side, value in {"with": 2.0, "without": 3.0}.items()}
    written = {
        ("int4", FIRST, 1, "with"): Written(2.0, [[1, 2], [3]], (8, 6, 4)),
        ("int4", FIRST, 1, "without"): Written(3.0, [[1, 2], [4]], (6, 0, 0)),
    }
    found = findings_of(times, written)
    (row,) = found.rows
    assert (row["tokens_per_second"], row["without"], row["ratio"]) == (4.0, 2.0, 2.0)
    assert (row["guessed"], row["accepted"], row["equal"]) == (0.75, 0.5, 0.5)
    assert [(goal.value, goal.met) for goal in found.goals] == [(2.0, True)] * 2


@pytest.mark.slow
def test_both_sides_write_the_same_texts_in_fp32(ours: Ours, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(prompt_lookup, "QUICK_TEXTS", 2)
    monkeypatch.setattr(prompt_lookup, "NEW", 6)
    monkeypatch.setattr(prompt_lookup, "e2e_inputs", lambda: ["name[Blue Spice]", "name[Alimentum]"])
    cases = {name: CASES[name] for name in (FIRST, "records of the demo", "records, sampled")}
    monkeypatch.setattr(prompt_lookup, "CASES", cases)
    bundle = replace(ours.generator.bundle, adapters={"one": ours.generator.find("one")})
    times, written = compare({"fp32": bundle}, quick=True)
    for (precision, case, rows, side), one in written.items():
        assert one.tokens == written[precision, case, rows, "without"].tokens
        assert times[precision, case, rows, side].seconds > 0
