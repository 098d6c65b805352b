from pathlib import Path

import pytest

from serve.args import parse_args
from serve.telemetry.metric_flags import metric_options


def test_names_are_chosen_by_the_command_line_the_environment_and_the_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert metric_options(parse_args(["bundle"])).sets == ("adamix",)
    assert metric_options(parse_args(["bundle", "--metrics", "vllm"])).sets == ["vllm"]
    assert metric_options(parse_args(["bundle", "--metrics", "vllm", "--metrics", "adamix"])).sets == ["vllm", "adamix"]
    file = tmp_path / "serve.yaml"
    file.write_text("metrics: [adamix, vllm]")
    assert metric_options(parse_args(["bundle", "--config", str(file)])).sets == ["adamix", "vllm"]
    monkeypatch.setenv("ADAMIX_METRICS", "vllm,adamix")
    assert metric_options(parse_args(["bundle"])).sets == ["vllm", "adamix"]


def test_unknown_names_are_refused_with_those_that_there_are(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        parse_args(["bundle", "--metrics", "sglang"])
    error = capsys.readouterr().err
    assert "invalid choice: 'sglang'" in error and "'adamix', 'vllm'" in error


def test_the_number_of_labels_is_that_of_the_flag() -> None:
    assert metric_options(parse_args(["bundle", "--max-metric-adapters", "7"])).max_adapters == 7
