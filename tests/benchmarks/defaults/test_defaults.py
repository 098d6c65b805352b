import csv
import json
from pathlib import Path
from typing import Any

import pytest

from adamix_train.recipe.flags import make_recipe
from benchmarks.defaults.__main__ import main
from benchmarks.defaults.sets import SETS, TESTED
from benchmarks.defaults.table import findings_of, row_of
from benchmarks.defaults.trainings import RATES, Training, trainings
from benchmarks.quality.runs import Workshop
from benchmarks.support import data
from benchmarks.support.report import Absent


@pytest.fixture(autouse=True)
def data_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A data folder in which every file is there; only E2E's is read."""
    folder = tmp_path / "shared"
    for name in ("sst2/train.tsv", "sst2/test.tsv", "mrpc/train.txt", "mrpc/test.txt", "e2e/devset.csv"):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).touch()
    rows = [f"thing {index // 2},text {index}" for index in range(200)]
    (folder / "e2e/testset_w_refs.csv").write_text("\n".join(["mr,ref", *rows]) + "\n")
    monkeypatch.setattr(data, "DATA", folder)
    return folder


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


def record(score: float, accuracy: float = 0.5, loss: float = 1.0) -> dict[str, Any]:
    found = {"test_accuracy": score, "accuracy": accuracy, "loss": loss}
    return found | {"train_examples": 9, "steps": 600, "settings": {"learning_rate": 0.004}}


def test_the_defaults_are_compared_with_the_best_mean_of_the_grid(tmp_path: Path) -> None:
    scores = {None: (0.8, 0.7), (1e-3, 80): (0.5, 0.5), (4e-3, 240): (0.9, 0.7), (8e-3, 720): (0.95, 0.4)}
    records = {
        Training(subject="tone", seed=seed, made=tmp_path, setting=setting): record(values[seed])
        for setting, values in scores.items()
        for seed in (0, 1)
    }
    row = row_of("tone", records)
    assert (row["defaults"], row["best"], row["median of grid"]) == (0.75, 0.8, 0.675)
    assert row["of best"] == pytest.approx(0.75 / 0.8, abs=1e-4)
    assert (row["best setting"], row["default setting"]) == ("rate 0.004, 240 steps", "rate 0.004, 600 steps")
    (goal,) = findings_of([row], []).goals
    assert not goal.met


def test_a_setting_is_tuned_on_each_seeds_validation_data_where_the_loss_breaks_ties(tmp_path: Path) -> None:
    found = {
        None: (record(0.8), record(0.7)),
        (1e-3, 80): (record(0.5, accuracy=0.9, loss=0.4), record(0.6, accuracy=0.8)),
        (4e-3, 240): (record(0.6, accuracy=0.9, loss=0.3), record(0.9, accuracy=0.7)),
        (8e-3, 720): (record(0.7, accuracy=0.8, loss=0.1), record(0.9, accuracy=0.7)),
    }
    records = {
        Training(subject="tone", seed=seed, made=tmp_path, setting=setting): values[seed]
        for setting, values in found.items()
        for seed in (0, 1)
    }
    row = row_of("tone", records)
    assert row["tuned"] == pytest.approx((0.6 + 0.6) / 2)
    assert row["of tuned"] == pytest.approx(0.75 / 0.6)


def test_a_set_without_time_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(data, "sample_model", lambda base: Path(base))
    monkeypatch.setattr(Workshop, "records", lambda self, runs: {run: record(0.9) for run in runs})
    main(["--sets", "tone,intent", "--runs", str(tmp_path), "--json", "-"])
    report = json.loads(capsys.readouterr().out)
    assert [(row["set"], row["of best"]) for row in report["rows"]] == [("tone", 1.0), ("intent", 1.0)]
    assert all(goal["met"] for goal in report["goals"])
    monkeypatch.undo()
    monkeypatch.setattr(data, "sample_model", lambda base: Path(base))
    main(["--sets", "tone", "--runs", str(tmp_path), "--minutes", "0", "--json", "-"])
    assert json.loads(capsys.readouterr().out)["absent"][0] == vars(
        Absent(peer="tone", reason="the time was over; repeat the command, which goes on")
    )


def test_an_unknown_set_is_named(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["--sets", "tome"])
    assert "unknown set 'tome'" in capsys.readouterr().err
