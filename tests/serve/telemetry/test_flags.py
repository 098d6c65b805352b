import argparse
import subprocess
import sys
from pathlib import Path

import pytest

from serve.errors import ConfigurationError
from serve.telemetry.flags import add_log_flags, request_observer, request_tracer
from tests.fixtures.toy_engine import ToyEngine


def parsed(*argv: str) -> argparse.Namespace:
    parser = argparse.ArgumentParser(exit_on_error=False)
    add_log_flags(parser)
    return parser.parse_args(argv)


def test_nothing_is_logged_or_traced_by_default() -> None:
    args = parsed()
    observer = request_observer(ToyEngine(), args)
    assert observer.access_log is not None
    assert (args.log_format, observer.access_log.share, observer.tracer) == ("text", 0.0, None)


@pytest.mark.parametrize("flag", ["--access-log", "--trace-sample"])
@pytest.mark.parametrize("wrong", ["-0.1", "1.1", "nan", "half", "inf"])
def test_a_share_is_a_number_from_0_to_1(flag: str, wrong: str) -> None:
    with pytest.raises(argparse.ArgumentError, match="is not a share, which is a number from 0 to 1"):
        parsed(f"{flag}={wrong}")


@pytest.mark.parametrize("wrong", ["localhost:4318", "grpc://localhost:4317", "http://", "http://a:b", "http://[", ""])
def test_a_collector_has_an_address_of_http(wrong: str) -> None:
    with pytest.raises(argparse.ArgumentError, match="is not the address of a collector"):
        parsed(f"--otlp-endpoint={wrong}")


def test_without_the_extra_it_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "opentelemetry.sdk.resources", None)
    monkeypatch.delitem(sys.modules, "serve.telemetry.otlp", raising=False)
    with pytest.raises(ConfigurationError, match=r"needs the extra otlp .*: run pip install '\.\[cpu,otlp\]'"):
        request_tracer(parsed("--otlp-endpoint", "http://localhost:4318"))


def test_a_check_names_the_missing_extra_in_one_line(bundle_folder: Path) -> None:
    code = "import sys; sys.modules['opentelemetry.sdk.trace'] = None; from serve import cli; cli.main(sys.argv[1:])"
    flags = ["--check", "--provider", "cpu", "--no-cache", "--otlp-endpoint", "http://localhost:4318"]
    found = subprocess.run([sys.executable, "-c", code, bundle_folder, *flags], capture_output=True, text=True)
    assert found.returncode == 1
    assert found.stderr.startswith("adamix-serve: --otlp-endpoint needs the extra otlp (")
    assert len(found.stderr.splitlines()) == 1
