from collections.abc import Callable

import pytest

from benchmarks.gpu.bundles import open_prepared, with_many
from benchmarks.gpu.ceilings import COPY
from benchmarks.gpu.decoding import (
    BANK,
    GENERATE,
    LIMITS,
    OURS,
    SAMPLED,
    STATIC,
    STEP,
    WRITE,
    Decoder,
    Steps,
    case_of,
    figures_of,
    measure_large,
    measure_small,
    measure_static_large,
    measure_static_small,
    prompts,
    rows_in,
    slot_seconds,
    static_figures_of,
    table_of,
)
from benchmarks.gpu.outcome import Outcome
from benchmarks.gpu.setting import Setting
from benchmarks.gpu.torch_sides import Generate
from benchmarks.support.errors import PeerError
from benchmarks.support.rounds import Timing

TIMINGS = {
    case_of(1): {OURS: Timing([0.001]), STATIC: Timing([0.004])},
    case_of(64): {OURS: Timing([0.0016]), BANK: Timing([0.002]), GENERATE: Timing([0.02])},
    "copy": {COPY: Timing([0.1])},
    "slot write": {STEP: Timing([0.0010]), WRITE: Timing([0.0013])},
}


def test_figures_are_those_of_the_goals() -> None:
    assert figures_of(TIMINGS, "gpt2-medium", floor=0.0005) == pytest.approx(
        {
            "slot_write_gpt2-medium": 0.3,
            "decode_bank_gpt2-medium": 1.25,
            "decode_batch_gpt2-medium": 40.0,
            "decode_bandwidth": 0.5,
        }
    )
    assert "decode_bandwidth" not in figures_of(TIMINGS, "smollm2", floor=0.0005)


def test_without_the_peer_there_is_no_figure() -> None:
    assert static_figures_of(TIMINGS, "smollm2") == pytest.approx({"decode_static_smollm2": 4.0})
    assert static_figures_of({case_of(1): {OURS: Timing([0.001])}}, "smollm2") == {}


@pytest.mark.slow
@pytest.mark.parametrize(
    ("measure", "model"), [(measure_static_small, "smollm2"), (measure_static_large, "gpt2-medium")]
)
def test_the_peer_that_compiles_has_a_part_of_its_own(
    measure: Callable[[Setting], Outcome], model: str, made: Setting, monkeypatch: pytest.MonkeyPatch
) -> None:
    outcome = measure(made)
    assert [(row["model"], row["case"], row["side"]) for row in outcome.rows] == [
        (model, "batch 1", side) for side in (OURS, STATIC)
    ]
    assert outcome.figures.keys() == {f"decode_static_{model}"}

    def fail(*_: object) -> None:
        raise PeerError("it does not compile")

    monkeypatch.setattr(Generate, "prepare", fail)
    outcome = measure(made)
    assert [row["side"] for row in outcome.rows] == [OURS]
    assert (outcome.figures, [str(one.reason) for one in outcome.absent]) == ({}, ["it does not compile"])


def test_a_slot_write_takes_no_less_than_nothing() -> None:
    assert slot_seconds({STEP: Timing([0.002]), WRITE: Timing([0.001])}) == 0.0


def test_a_table_has_the_tokens_of_batches_alone() -> None:
    rows = {(row["case"], row["side"]): row for row in table_of(TIMINGS, "smollm2")}
    assert rows["batch 64", OURS]["tokens_a_second"] == pytest.approx(40_000)
    assert rows["copy", COPY]["tokens_a_second"] == ""
    assert [rows_in("batch 8"), rows_in("copy")] == [8, 0]


@pytest.mark.slow
def test_every_measured_step_gives_each_row_a_token_and_writes_one_slot(made: Setting) -> None:
    bundle = open_prepared("smollm2-bank", made)
    decoder = Decoder(with_many(bundle, 4), LIMITS, slots=3, provider="cpu")
    steps = Steps(decoder, prompts(bundle, 2), 4)
    bank = decoder.generator.bank
    assert bank is not None
    for _ in range(7):  # longer than a batch of four tokens: it begins anew
        before = bank.slot_writes
        assert steps.step().seconds > 0
        assert bank.slot_writes - before <= 2
    steps = Steps(decoder, prompts(bundle, 2), 16)
    while decoder.scheduler().busy:
        decoder.scheduler().step()
    steps.write_and_step()  # begins, and may find its adapter in the free slot
    before = bank.slot_writes
    for _ in range(3):
        steps.write_and_step()
    assert bank.slot_writes - before == 3


@pytest.mark.slow
@pytest.mark.parametrize(("measure", "model"), [(measure_small, "smollm2"), (measure_large, "gpt2-medium")])
def test_a_rehearsal_measures_every_side(measure: Callable[[Setting], Outcome], model: str, made: Setting) -> None:
    outcome = measure(made)
    assert [(row["case"], row["side"]) for row in outcome.rows] == [
        ("batch 1", OURS),
        ("batch 1", SAMPLED),
        ("batch 1", GENERATE),
        ("batch 2", OURS),
        ("batch 2", SAMPLED),
        ("batch 2", GENERATE),
        ("batch 2", BANK),
        *((f"reading {count} prompts", side) for count in (1, 2) for side in (OURS, GENERATE)),
        ("copy", COPY),
        ("slot write", STEP),
        ("slot write", WRITE),
    ]
    assert {row["model"] for row in outcome.rows} == {model}
    assert not outcome.absent
