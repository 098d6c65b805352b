from pathlib import Path

import pytest

from serve.args import load_options, parse_args
from serve.connection_flags import connection_limits
from serve.connection_limits import ConnectionLimits
from serve.engines import ENGINES
from serve.errors import ConfigurationError
from serve.limit_flags import LIMITS, limits


@pytest.mark.parametrize("name", LIMITS)
def test_every_limit_has_a_flag(name: str) -> None:
    given = limits(parse_args(["bundle", f"--{name.replace('_', '-')}", "3"]))
    assert {key for key, value in given.items() if value == 3} == {name}


def test_limits_that_are_not_given_are_left_to_the_engine() -> None:
    assert limits(parse_args(["bundle"])) == {
        "timeout": 30.0,
        "max_queue_secs": None,
        "ensemble": None,
        **dict.fromkeys(LIMITS),
    }
    assert limits(parse_args(["bundle", "--ensemble"]))["ensemble"] is True


def test_every_limit_is_one_of_an_engine() -> None:
    assert limits(parse_args(["bundle"])).keys() <= {name for kind in ENGINES.values() for name in kind.limits}


def test_zero_disables_the_prefix_cache_and_nothing_else(capsys: pytest.CaptureFixture[str]) -> None:
    assert limits(parse_args(["bundle", "--prefix-tokens", "0"]))["prefix_tokens"] == 0
    for name in LIMITS.keys() - {"prefix_tokens"}:
        with pytest.raises(SystemExit):
            parse_args(["bundle", f"--{name.replace('_', '-')}", "0"])
        assert "0 is not positive" in capsys.readouterr().err


def test_prompt_lookup_is_a_number_or_off(capsys: pytest.CaptureFixture[str]) -> None:
    assert limits(parse_args(["bundle", "--prompt-lookup", "7"]))["prompt_lookup"] == 7
    assert limits(parse_args(["bundle", "--prompt-lookup", "off"]))["prompt_lookup"] == 0
    with pytest.raises(SystemExit):
        parse_args(["bundle", "--prompt-lookup", "32"])
    assert "32 is more than 31" in capsys.readouterr().err


def test_options_of_the_model_are_those_that_were_given() -> None:
    flags = ["--provider", "cpu", "--threads", "2", "--slots", "3", "--host-adapters", "4", "--cache", "graphs"]
    flags += ["--pin", "tone,intent"]
    assert load_options(parse_args(["bundle", *flags])) == {
        "provider": "cpu",
        "threads": 2,
        "slots": 3,
        "host_adapters": 4,
        "cache": Path("graphs"),
        "pins": {"tone", "intent"},
    }


def test_graphs_are_kept_in_the_cache_folder_unless_none_are(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ADAMIX_CACHE", str(tmp_path))
    assert load_options(parse_args(["bundle"]))["cache"] == tmp_path / "graphs"
    assert load_options(parse_args(["bundle", "--no-cache", "--cache", "graphs"]))["cache"] is None


def test_flags_are_written_out(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        parse_args(["bundle", "--provide", "cpu"])
    assert "--provide" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("text", "path"), [("/nlp", "/nlp"), ("nlp", "/nlp"), ("/nlp/", "/nlp"), ("/a/b", "/a/b"), ("/", ""), ("", "")]
)
def test_a_root_path_has_one_slash_before_it_and_none_behind(text: str, path: str) -> None:
    assert parse_args(["bundle", "--root-path", text]).root_path == path


@pytest.mark.parametrize("text", ["/a b", "/a?b", "https://example.org/nlp", "/ä", "/%61"])
def test_a_root_path_that_is_none_is_refused(text: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        parse_args(["bundle", "--root-path", text])
    assert "is not a path such as /nlp" in capsys.readouterr().err


def test_two_protocols_do_not_share_a_port() -> None:
    with pytest.raises(ConfigurationError, match="--port and --grpc-port are both 8080: give each its own"):
        parse_args(["bundle", "--grpc-port", "8080"])
    assert parse_args(["bundle", "--port", "0", "--grpc-port", "0"]).grpc_port == 0


def test_limits_of_connections_are_those_of_the_flags_or_the_defaults() -> None:
    assert connection_limits(parse_args(["bundle"])) == ConnectionLimits()
    flags = ["--max-connections", "1", "--header-limit", "2", "--header-timeout-secs", "3", "--write-timeout-secs", "4"]
    expected = ConnectionLimits(max_connections=1, header_limit=2, header_timeout=3, write_timeout=4)
    assert connection_limits(parse_args(["bundle", *flags])) == expected


@pytest.mark.parametrize(
    ("text", "origin"),
    [
        ("https://Example.org/", "https://example.org"),
        ("http://localhost:3000", "http://localhost:3000"),
        ("http://[::1]:3000", "http://[::1]:3000"),
        ("app://here", "app://here"),
        ("*", "*"),
    ],
)
def test_an_origin_is_taken_as_browsers_send_it(text: str, origin: str) -> None:
    assert parse_args(["bundle", "--cors-origin", text]).cors_origin == [origin]


@pytest.mark.parametrize(
    "text", ["foo", "example.org", "https://example.org/page", "https://*.example.org", "null", ""]
)
def test_what_no_browser_sends_is_no_origin(text: str) -> None:
    with pytest.raises(SystemExit):
        parse_args(["bundle", f"--cors-origin={text}"])


def test_json_without_a_check_is_refused() -> None:
    with pytest.raises(ConfigurationError, match="--json is the form of what --check prints: give --check too"):
        parse_args(["bundle", "--json"])
    assert parse_args(["bundle", "--json", "--check"]).json
