import io
import re
import subprocess
import sys
from pathlib import Path

import pytest

from adamix_cli.progress_bar import ProgressLines, progress_bar

ROOT = Path(__file__).parents[2]


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.fixture
def seconds(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The time of both clocks, tqdm's and that of lines."""
    now = [0.0]
    monkeypatch.setattr("adamix_cli.line_clock.time.monotonic", lambda: now[0])
    monkeypatch.setattr("tqdm.std.time", lambda: now[0])
    return now


def test_a_pipe_gets_a_line_every_ten_seconds_and_one_at_the_end(seconds: list[float]) -> None:
    stream = io.StringIO()
    for _ in progress_bar(range(200), desc="measuring", unit="turn", file=stream):
        seconds[0] += 0.125
    lines = stream.getvalue().splitlines()
    assert [re.sub(r"\[.*", "", line).strip() for line in lines] == [
        "measuring:  40%| 80/200",
        "measuring:  80%| 160/200",
        "measuring: 100%| 200/200",
    ]
    assert "\r" not in stream.getvalue()
    assert "\x1b" not in stream.getvalue()


def test_each_stage_has_a_line_and_values_beside_the_bar_do_not_add_any(seconds: list[float]) -> None:
    stream = io.StringIO()
    with progress_bar(total=3, desc="opening", bar_format="{l_bar}{bar}| {elapsed}", file=stream) as bar:
        for stage in ("tracing", "checking", "writing"):
            bar.set_description(stage)
            bar.set_postfix(loss=1.0)
            seconds[0] += 4
            bar.update()
    assert stream.getvalue().splitlines() == [
        "tracing:   0%| 0/3 | 00:00",
        "checking:  33%| 1/3 | 00:04",
        "writing:  67%| 2/3 | 00:08",
        "writing: 100%| 3/3 | 00:12",
    ]


def test_a_count_without_an_end_is_shown_as_such(seconds: list[float]) -> None:
    stream = io.StringIO()
    with progress_bar(desc="choosing", unit="soup", file=stream) as bar:
        bar.update(4)
    assert "4/?" in stream.getvalue()


def test_a_terminal_gets_a_bar_on_one_line() -> None:
    stream = Terminal()
    assert not isinstance(progress_bar([], file=stream), ProgressLines)
    for _ in progress_bar(range(3), file=stream, ascii=True):
        pass
    assert stream.getvalue().count("\n") == 2  # one for each of the two bars
    assert "\r" in stream.getvalue()


def test_a_bar_that_is_switched_off_says_nothing() -> None:
    stream = io.StringIO()
    assert [*progress_bar(range(3), file=stream, disable=True)] == [0, 1, 2]
    assert stream.getvalue() == ""


def test_stderr_of_a_process_in_a_pipe_has_lines() -> None:
    code = "from adamix_cli.progress_bar import progress_bar\nfor _ in progress_bar(range(2), desc='x'): pass"
    shown = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT)
    assert shown.stderr.startswith("x: 100%| 2/2 [")
    assert shown.stdout == ""


def test_every_bar_of_the_project_is_this_one() -> None:
    for package in ("adamix_train", "adamix_export", "adamix_predict", "demos", "benchmarks", "docs"):
        for file in (ROOT / package).rglob("*.py"):
            assert not re.search(r"\btqdm(\.auto)?(\.tqdm)?\(|from tqdm(\.auto)? import", file.read_text("utf-8")), file
