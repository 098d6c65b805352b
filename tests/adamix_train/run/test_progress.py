import io

import pytest
from transformers import TrainerControl, TrainerState

from adamix_train.run.progress import ProgressBar


class Terminal(io.StringIO):
    """A stream that shows the bar at once."""

    def isatty(self) -> bool:
        return True


def last_line(terminal: Terminal) -> str:
    """The bar as it was last drawn, without the spaces that cover a longer one before it."""
    return terminal.getvalue().rstrip().rpartition("\r")[2]


def test_a_resumed_runs_bar_starts_where_it_stopped_and_shows_the_newest_values(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    terminal = Terminal()
    monkeypatch.setattr("sys.stderr", terminal)
    bar, control = ProgressBar("accuracy"), TrainerControl()
    state = TrainerState(global_step=4, max_steps=10, is_world_process_zero=True)
    bar.on_train_begin(None, state, control)
    assert "4/10" in last_line(terminal)
    state.global_step = 7
    bar.on_step_end(None, state, control)
    bar.on_log(None, state, control, logs={"loss": 2.0, "learning_rate": 0.125, "epoch": 1.0})
    bar.on_log(None, state, control, logs={"eval_accuracy": 0.75, "eval_loss": 3.0})
    bar.on_log(None, state, control, logs={"loss": 0.12345})
    bar.on_train_end(None, state, control)
    shown = last_line(terminal)
    assert shown.startswith("training:  70%")
    assert "7/10" in shown
    assert shown.endswith(", loss=0.123, validation accuracy=0.750]")


def test_of_several_processes_the_first_alone_shows_a_bar(capsys: pytest.CaptureFixture[str]) -> None:
    bar, control = ProgressBar("accuracy"), TrainerControl()
    state = TrainerState(global_step=0, max_steps=10, is_world_process_zero=False)
    bar.on_train_begin(None, state, control)
    state.global_step = 1
    bar.on_step_end(None, state, control)
    bar.on_log(None, state, control, logs={"loss": 0.5})
    bar.on_train_end(None, state, control)
    assert capsys.readouterr().err == ""
