"""The command on a Ray cluster of one node."""

import csv
import json
from pathlib import Path
from typing import Any

import pytest

from adamix_predict.cli import main
from serve.classification.classifier import Classifier
from tests.fixtures.ray_node import ray_node
from tests.serve.conftest import Reference, reference, write_bundle

pytest.importorskip("ray", reason="the extra ray is not installed")
pa = pytest.importorskip("pyarrow")
pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("ray_node")]
__all__ = ["ray_node", "reference"]
TEXTS = ["good", "the bill is late", "very bad", "good good bad"]
ADAPTERS = ["tone", "intent"]


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory, reference: Reference) -> Path:
    return write_bundle(tmp_path_factory.mktemp("ray") / "bundle", reference, ADAPTERS)


def predict(bundle: Path, file: Path, out: Path, *flags: str) -> None:
    options = ["--provider", "cpu", "--threads", "1", "--no-cache", "--predictors", "1", "--ray", "local"]
    main([str(bundle), str(file), "--out", str(out), *options, *flags])


def summary_of(printed: str) -> dict[str, Any]:
    """Return the summary; the node of the tests, which goes on, may have printed lines beside it."""
    found: dict[str, Any] = json.loads(printed[printed.index("{\n") : printed.rindex("}") + 1])
    return found


def rows_of(folder: Path) -> list[dict[str, Any]]:
    """Return all rows of a folder, in the order of their numbers."""
    from pyarrow import parquet

    found: list[dict[str, Any]] = []
    for file in folder.iterdir():
        if file.suffix == ".parquet":
            found += parquet.read_table(file).to_pylist()
        elif file.suffix == ".csv":
            found += csv.DictReader(file.read_text().splitlines())
        else:
            found += map(json.loads, file.read_text().splitlines())
    return sorted(found, key=lambda row: int(row["id"]))


def write(file: Path, rows: list[dict[str, Any]]) -> Path:
    from pyarrow import parquet

    file.parent.mkdir(parents=True, exist_ok=True)
    if file.suffix == ".parquet":
        parquet.write_table(pa.Table.from_pylist(rows), file)
    elif file.suffix == ".csv":
        with file.open("w", newline="") as stream:
            table = csv.DictWriter(stream, rows[0])
            table.writeheader()
            table.writerows(rows)
    else:
        file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return file


@pytest.mark.parametrize("suffix", [".parquet", ".jsonl", ".csv"])
def test_a_folder_of_files_gets_the_predictions_of_one_process(
    suffix: str, bundle: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = [
        {"id": f"{n:03}", "message": TEXTS[n % 4], "name": ADAPTERS[n % 3 % 2], "note": "a, \"b\""} for n in range(60)
    ]  # fmt: skip
    for part in range(3):
        write(tmp_path / "in" / f"part{part}{suffix}", rows[part * 20 : part * 20 + 20])
    out = tmp_path / "out"
    columns = ("--text-column", "message", "--adapter-column", "name")
    predict(bundle, tmp_path / "in", out, *columns, "--json", "--bad-rows", "keep", "--predictors", "2")
    found = rows_of(out)
    expected = Classifier(bundle, provider="cpu", threads=1)(
        [row["message"] for row in rows], adapter=[row["name"] for row in rows]
    )
    assert [{name: row[name] for name in rows[0]} for row in found] == rows
    assert [row["predicted_label"] for row in found] == [one.label for one in expected]
    for row, one in zip(found, expected, strict=True):
        assert float(row["predicted_score"]) == pytest.approx(float(one.scores.max()), abs=1e-5)
        assert not row["predicted_error"]
    summary = summary_of(capsys.readouterr().out)
    assert (summary["rows"], summary["bad_rows"]) == (60, 0)


def test_a_row_that_cannot_be_predicted_is_kept_with_the_reason_and_the_others_go_on(
    bundle: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = [{"id": str(n), "text": " " if n == 7 else "good"} for n in range(12)]
    file = write(tmp_path / "in.jsonl", rows)
    predict(bundle, file, tmp_path / "out.parquet", "--adapter", "tone", "--bad-rows", "keep", "--json")
    found = rows_of(tmp_path / "out.parquet")
    assert [row["id"] for row in found if row["predicted_error"]] == ["7"]
    assert "the text of the row {'id': '7'" in found[7]["predicted_error"]
    assert all(row["predicted_label"] for row in found if row["id"] != "7")
    assert summary_of(capsys.readouterr().out)["bad_rows"] == 1


def test_paths_are_those_of_the_folder_that_the_command_runs_in(
    bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not of those that a cluster's processes run in."""
    write(tmp_path / "in.jsonl", [{"id": "1", "text": "good"}])
    monkeypatch.chdir(tmp_path)
    predict(bundle, Path("in.jsonl"), Path("out.tsv"), "--adapter", "tone")
    (written,) = (tmp_path / "out.tsv").iterdir()
    assert written.suffix == ".tsv"
    rows = list(csv.DictReader(written.read_text().splitlines(), delimiter="\t"))
    expected = Classifier(bundle, provider="cpu", threads=1)(["good"], adapter="tone")
    assert [(row["text"], row["predicted_label"]) for row in rows] == [("good", expected[0].label)]


def test_json_lines_that_were_written_are_read_again(bundle: Path, tmp_path: Path) -> None:
    write(tmp_path / "in" / "part.jsonl", [{"id": "1", "text": "good"}])
    predict(bundle, tmp_path / "in", tmp_path / "out", "--adapter", "tone")
    (tmp_path / "out" / "_SUCCESS").touch()
    predict(bundle, tmp_path / "out", tmp_path / "again.csv", "--adapter", "tone", "--prefix", "second_")
    (row,) = rows_of(tmp_path / "again.csv")
    assert row["second_label"] == row["predicted_label"]


def test_a_malformed_file_is_one_line(bundle: Path, tmp_path: Path) -> None:
    (tmp_path / "in.csv").write_text("id,text\n1,good\n2\n")
    with pytest.raises(SystemExit) as ended:
        predict(bundle, tmp_path / "in.csv", tmp_path / "out", "--adapter", "tone")
    assert "the rows could not be read or written: CSV parse error" in str(ended.value.code)
    assert "\n" not in str(ended.value.code)


def test_the_folder_that_is_read_is_not_replaced(bundle: Path, tmp_path: Path) -> None:
    file = write(tmp_path / "in" / "part.csv", [{"id": "1", "text": "good"}])
    for out in (tmp_path / "in", tmp_path / "in" / "out", bundle):
        with pytest.raises(SystemExit, match="which is read, lie one in the other"):
            predict(bundle, tmp_path / "in", out, "--adapter", "tone", "--force")
    assert file.exists() and (bundle / "bundle.json").exists()


def test_without_that_it_ends_the_job_with_one_line_and_nothing_is_left(bundle: Path, tmp_path: Path) -> None:
    file = write(tmp_path / "in.jsonl", [{"id": "1", "text": "good"}, {"id": "2", "text": " "}])
    with pytest.raises(SystemExit, match=r"^adamix-predict: .*the text of the row .* is empty; correct or remove"):
        predict(bundle, file, tmp_path / "out", "--adapter", "tone")
    assert not (tmp_path / "out").exists()


def test_a_folder_that_exists_is_replaced_with_force_alone(bundle: Path, tmp_path: Path) -> None:
    file = write(tmp_path / "in.csv", [{"id": "1", "text": "good"}])
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "mine.csv").write_text("id\n9\n")
    with pytest.raises(SystemExit, match="out exists: give another folder, or --force to replace it"):
        predict(bundle, file, tmp_path / "out", "--adapter", "tone")
    assert (tmp_path / "out" / "mine.csv").exists()
    predict(bundle, file, tmp_path / "out", "--adapter", "tone", "--force")
    assert [row["id"] for row in rows_of(tmp_path / "out")] == ["1"]


@pytest.mark.parametrize(
    ("name", "message"),
    [("nothing.csv", "there is no file or folder"), ("in.xml", "has files of the forms none: give files of one of")],
)
def test_files_that_cannot_be_read_are_refused(name: str, message: str, bundle: Path, tmp_path: Path) -> None:
    (tmp_path / "in.xml").write_text("<rows/>")
    with pytest.raises(SystemExit, match=message):
        predict(bundle, tmp_path / name, tmp_path / "out", "--adapter", "tone")


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--adapter", "nobody"], "there is no adapter 'nobody' here; there are tone, intent"),
        ([], "name an adapter with --adapter or --adapter-column: tone, intent"),
        (["--adapter", "tone", "--max-new-tokens", "3"], "--max-new-tokens means nothing for"),
    ],
)
def test_mistakes_are_told_before_predictors_start(
    flags: list[str], message: str, bundle: Path, tmp_path: Path
) -> None:
    file = write(tmp_path / "in.csv", [{"id": "1", "text": "good"}])
    with pytest.raises(SystemExit, match=message):
        predict(bundle, file, tmp_path / "out", *flags)
