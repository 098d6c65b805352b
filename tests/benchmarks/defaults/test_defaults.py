import csv
import json
from pathlib import Path

import pytest

from adamix_train.recipe.flags import make_recipe
from benchmarks.defaults import wrong_column
from benchmarks.defaults.__main__ import main
from benchmarks.defaults.results import Result
from benchmarks.defaults.sets import SETS, TESTED
from benchmarks.defaults.table import findings_of, row_of
from benchmarks.defaults.trainings import RATES, Training, trainings
from benchmarks.quality.runs import Workshop
from benchmarks.support import data
from benchmarks.support.errors import BenchmarkError
from benchmarks.support.report import Absent
from tests.benchmarks.defaults.records import record_of


def test_a_run_has_what_its_user_has_to_say_and_the_grid_four_settings_more(tmp_path: Path) -> None:
    runs = trainings("tone", seeds=2, made=tmp_path)
    assert len(runs) == 2 * (1 + len(RATES) * 3)
    said = runs[0].recipe(Path("b"), Path("o"))
    assert not {"learning_rate", "batch_size", "epochs", "eval_steps"} & said.keys()
    for run in runs[2:]:
        given = run.recipe(Path("b"), Path("o"))
        steps = given["epochs"] * SETS["tone"].rows / given["batch_size"]
        assert steps == pytest.approx(run.setting[1] if run.setting else 0)
        assert given.keys() - said.keys() == {"learning_rate", "batch_size", "epochs", "eval_steps"}


def test_all_trainings_have_the_precision_that_is_asked_for(tmp_path: Path) -> None:
    for run in trainings("tone", seeds=1, made=tmp_path, precision="bf16"):
        assert run.recipe(Path("b"), Path("o"))["precision"] == "bf16"
        assert "-bf16-" in run.name


@pytest.mark.parametrize("name", SETS)
def test_every_set_makes_recipes(name: str, tmp_path: Path) -> None:
    runs = trainings(name, seeds=1, made=tmp_path)
    assert len({run.name for run in runs}) == len(runs)
    for run in runs:
        recipe = make_recipe(None, run.recipe(Path("b"), Path("o")))
        assert recipe.train_limit in (None, SETS[name].rows)
        assert Path(str(recipe.test_file)).is_file()


def test_a_test_of_texts_has_all_references_of_the_first_inputs(tmp_path: Path) -> None:
    file = SETS["e2e-500"].files(tmp_path)["test_file"]
    with Path(file).open() as stream:
        rows = list(csv.DictReader(stream))
    assert len({row["mr"] for row in rows}) == TESTED
    assert len(rows) == 2 * TESTED


def test_tones_become_scores(tmp_path: Path) -> None:
    with Path(SETS["scores"].files(tmp_path)["train_file"]).open() as stream:
        assert {row["score"] for row in csv.DictReader(stream)} == {"0", "1"}


def result(score: float, validation: float | None = 0.5, loss: float = 1.0) -> Result:
    settings = {"learning_rate": 0.004}
    return Result(name="a run", rows=9, settings=settings, steps=600, score=score, validation=validation, loss=loss)


def test_the_defaults_are_compared_with_the_best_mean_of_the_grid(tmp_path: Path) -> None:
    scores = {None: (0.8, 0.7), (1e-3, 80): (0.5, 0.5), (4e-3, 240): (0.9, 0.7), (8e-3, 720): (0.95, 0.4)}
    results = {
        Training(subject="tone", seed=seed, made=tmp_path, setting=setting): result(values[seed])
        for setting, values in scores.items()
        for seed in (0, 1)
    }
    row = row_of("tone", results)
    assert (row["defaults"], row["best"], row["median of grid"]) == (0.75, 0.8, 0.675)
    assert row["of best"] == pytest.approx(0.75 / 0.8, abs=1e-4)
    assert (row["best setting"], row["default setting"]) == ("rate 0.004, 240 steps", "rate 0.004, 600 steps")
    (goal,) = findings_of([row], []).goals
    assert not goal.met


def test_a_setting_is_tuned_on_each_seeds_validation_data_where_the_loss_breaks_ties(tmp_path: Path) -> None:
    found = {
        None: (result(0.8), result(0.7)),
        (1e-3, 80): (result(0.5, validation=0.9, loss=0.4), result(0.6, validation=0.8)),
        (4e-3, 240): (result(0.6, validation=0.9, loss=0.3), result(0.9, validation=0.7)),
        (8e-3, 720): (result(0.7, validation=0.8, loss=0.1), result(0.9, validation=0.7)),
    }
    results = {
        Training(subject="tone", seed=seed, made=tmp_path, setting=setting): values[seed]
        for setting, values in found.items()
        for seed in (0, 1)
    }
    row = row_of("tone", results)
    assert row["tuned"] == pytest.approx((0.6 + 0.6) / 2)
    assert row["of tuned"] == pytest.approx(0.75 / 0.6)


def test_a_set_without_time_is_named(
    tmp_path: Path, base: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    asked = ["--runs", str(tmp_path), "--results", str(tmp_path / "kept.json"), "--json", "-"]
    monkeypatch.setattr(data, "sample_model", lambda name: base)
    with monkeypatch.context() as patch:
        patch.setattr(Workshop, "records", lambda self, runs: {run: record_of(run, 0.9) for run in runs})
        main(["--sets", "tone,intent", *asked])
    report = json.loads(capsys.readouterr().out)
    assert [(row["set"], row["of best"]) for row in report["rows"]] == [("tone", 1.0), ("intent", 1.0)]
    *of_sets, column = report["goals"]
    assert all(goal["met"] for goal in of_sets)
    assert column["what"] == "seconds until a wrong column is named"
    assert column["value"] > 0
    main(["--sets", "tone,scores", "--minutes", "0", *asked])
    report = json.loads(capsys.readouterr().out)
    assert [row["set"] for row in report["rows"]] == ["tone"]
    assert report["absent"] == [
        vars(Absent(peer="scores", reason="the time was over; repeat the command, which goes on"))
    ]


def test_an_unknown_set_is_named(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["--sets", "tome"])
    assert "unknown set 'tome'" in capsys.readouterr().err


def test_a_wrong_column_that_is_not_named_is_no_time(base: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(wrong_column, "COLUMN", "text")  # a right one
    monkeypatch.setattr(wrong_column, "data_file", lambda task, split: Path("nowhere"))
    with pytest.raises(BenchmarkError, match="the wrong column was not named"):
        wrong_column.wrong_column_goal(base)
