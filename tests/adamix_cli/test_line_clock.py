import pytest

from adamix_cli.line_clock import LineClock


def test_a_line_is_due_every_ten_seconds(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 100.0
    monkeypatch.setattr("adamix_cli.line_clock.time.monotonic", lambda: now)
    clock, due = LineClock(), []
    for second in range(35):
        now = 100.0 + second
        if clock.is_due():
            due.append(second)
    assert due == [10, 20, 30]
