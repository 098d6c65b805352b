import io
from pathlib import Path

import pytest

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


def test_no_terminal_gets_a_line_every_ten_seconds_and_counts_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    stream, now = io.StringIO(), 0.0
    monkeypatch.setattr("adamix_cli.line_clock.time.monotonic", lambda: now)
    progress = Progress(stream, lambda: 1 // 0)
    for second in range(25):
        now = float(second)
        progress.show(10 * second)
    progress.clear()
    assert [line.partition(",")[0] for line in stream.getvalue().splitlines()] == ["100 rows", "200 rows"]
    assert CLEAR not in stream.getvalue()


def test_rows_are_the_lines_below_the_header_at_most_the_limit(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("text\na\nb\n")
    (tmp_path / "a.jsonl").write_text("{}\n{}\n{}\n")
    assert [count_rows(tmp_path / "a.csv", None), count_rows(tmp_path / "a.jsonl", 2)] == [2, 2]
