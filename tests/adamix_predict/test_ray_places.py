import re
from pathlib import Path

import pytest

pytest.importorskip("pyarrow")

from adamix_predict.ray_places import check_apart, form_of, make_room
from adamix_train.errors import DataError

SUFFIXES = (".csv", ".jsonl")


def test_other_files_in_a_folder_do_not_say_its_form(tmp_path: Path) -> None:
    (tmp_path / "part.csv").write_text("text\ngood\n")
    (tmp_path / "_SUCCESS").touch()
    assert form_of(str(tmp_path), SUFFIXES) == ".csv"


@pytest.mark.parametrize("out", ["rows", "rows/out", ".", "rows/../rows"])
def test_an_output_that_would_take_its_input_along_is_refused(out: str, tmp_path: Path) -> None:
    (tmp_path / "rows").mkdir()
    with pytest.raises(DataError, match="which is read, lie one in the other: write elsewhere"):
        check_apart(str(tmp_path / out), (str(tmp_path / "rows"),))
    check_apart(str(tmp_path / "rows2"), (str(tmp_path / "rows"),))


def test_a_folder_of_anything_but_rows_is_never_replaced(tmp_path: Path) -> None:
    (tmp_path / "rows.csv").write_text("text\n")
    (tmp_path / "thesis.tex").write_text("years of work")
    with pytest.raises(DataError, match=f"holds {re.escape(str(tmp_path))}/thesis.tex, which is no file of rows"):
        make_room(str(tmp_path), force=True, suffixes=SUFFIXES)
    assert (tmp_path / "rows.csv").exists()
    (tmp_path / "thesis.tex").unlink()
    make_room(str(tmp_path), force=True, suffixes=SUFFIXES)
    assert not tmp_path.exists()


def test_a_uri_that_nobody_knows_is_one_line() -> None:
    with pytest.raises(DataError, match=r"^what://bucket is no path, and no URI that pyarrow knows"):
        form_of("what://bucket", SUFFIXES)
