from dataclasses import replace
from pathlib import Path

import pytest

from benchmarks.defaults.results import Keeper, is_current, read_results, result_of, write_results
from benchmarks.defaults.trainings import Training
from benchmarks.quality.runs import Workshop
from benchmarks.support.errors import BenchmarkError
from tests.benchmarks.defaults.records import record_of


def training(setting: tuple[float, int] | None = None) -> Training:
    return Training(subject="tone", seed=0, made=Path("made"), setting=setting)


def test_a_result_has_what_the_table_needs() -> None:
    found = result_of(training(), record_of(training(), 0.75))
    assert (found.name, found.rows, found.steps) == ("tone-defaults-fp32-seed0", 288, 600)
    assert (found.score, found.validation, found.loss) == (0.75, 0.75, 0.25)
    record = record_of(training(), 0.75)
    del record["accuracy"]
    assert result_of(training(), record).validation is None


@pytest.mark.parametrize("setting", [None, (1e-3, 80)])
def test_a_result_is_current_while_the_defaults_choose_the_same(setting: tuple[float, int] | None) -> None:
    found = result_of(training(setting), record_of(training(setting), 0.75))
    assert is_current(found, training(setting), 384)
    for name, value in (("learning_rate", 0.5), ("routing", "batch"), ("epochs", 1.0)):
        assert not is_current(replace(found, settings={**found.settings, name: value}), training(setting), 384)


def test_a_wider_base_takes_another_rate_by_default_and_not_in_the_grid() -> None:
    assert not is_current(result_of(training(), record_of(training(), 0.75)), training(), 768)
    one = training((1e-3, 80))
    assert is_current(result_of(one, record_of(one, 0.75)), one, 768)


def test_results_that_are_kept_and_current_are_not_repeated(
    tmp_path: Path, base: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    carried_out: list[Training] = []

    def records(self: Workshop, runs: list[Training]) -> dict[Training, object]:
        carried_out.extend(runs)
        return {run: record_of(run, 0.75) for run in runs}

    monkeypatch.setattr(Workshop, "records", records)
    file, both = tmp_path / "kept.json", [training(), training((1e-3, 80))]
    with Workshop(folder=tmp_path, bases={"tone": base}, jobs=1) as workshop:
        assert Keeper(workshop, file).results(both[:1]).keys() == {both[0]}
        assert Keeper(workshop, file).results(both).keys() == set(both)
        assert carried_out == both
        kept = read_results(file)
        assert set(kept) == {one.name for one in both}
        stale = replace(kept[both[0].name], settings={"learning_rate": 0.5})
        write_results({**kept, stale.name: stale}, file)
        assert Keeper(workshop, file).results(both)[both[0]].settings["learning_rate"] == 4e-3
        assert carried_out == [*both, both[0]]
        Keeper(workshop, None).results(both[:1])
    assert carried_out == [*both, both[0], both[0]]


def test_a_record_of_what_other_defaults_chose_is_refused(
    tmp_path: Path, base: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    record = record_of(training(), 0.75)
    record["settings"]["learning_rate"] = 0.5
    monkeypatch.setattr(Workshop, "records", lambda self, runs: dict.fromkeys(runs, record))
    says = "tone-defaults-fp32-seed0 is of other defaults; take it away"
    with Workshop(folder=tmp_path, bases={"tone": base}, jobs=1) as workshop, pytest.raises(BenchmarkError, match=says):
        Keeper(workshop, tmp_path / "kept.json").results([training()])
    assert not (tmp_path / "kept.json").exists()


@pytest.mark.parametrize("content", ["[1]", "{", '[{"name": "a"}]', '[{"rows": 1}]'])
def test_a_file_that_holds_something_else_is_named(content: str, tmp_path: Path) -> None:
    (tmp_path / "kept.json").write_text(content)
    with pytest.raises(BenchmarkError, match=r"kept\.json holds no results of the defaults"):
        read_results(tmp_path / "kept.json")
