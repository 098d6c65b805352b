import io
from pathlib import Path

from adamix_predict.progress import CLEAR, Progress, count_rows


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_a_terminal_shows_a_bar_and_its_end_removes_it() -> None:
    stream = Terminal()
    progress = Progress(stream, lambda: 200)
    progress.show(50)
    assert "[######..................] 50 of 200 rows" in stream.getvalue()
    progress.clear()
    assert stream.getvalue().endswith(CLEAR)


def test_no_terminal_shows_nothing_and_counts_nothing() -> None:
    stream = io.StringIO()
    progress = Progress(stream, lambda: 1 // 0)
    progress.show(50)
    progress.clear()
    assert stream.getvalue() == ""


def test_rows_are_the_lines_below_the_header_at_most_the_limit(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("text\na\nb\n")
    (tmp_path / "a.jsonl").write_text("{}\n{}\n{}\n")
    assert [count_rows(tmp_path / "a.csv", None), count_rows(tmp_path / "a.jsonl", 2)] == [2, 2]
