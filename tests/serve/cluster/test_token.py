from pathlib import Path

import pytest

from serve.cluster.token import FILE, MODE, use_token


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("HOME", str(tmp_path))
    return tmp_path


def mode(address: str, **environment: str) -> str | None:
    use_token(address, environment)
    return environment.get(MODE)


def test_a_token_that_is_there_is_sent_to_a_cluster(home: Path) -> None:
    assert mode("auto") is None
    assert mode("auto", RAY_AUTH_TOKEN="secret") == mode("head:6379", RAY_AUTH_TOKEN_PATH="/secret") == "token"
    (home / FILE).parent.mkdir()
    (home / FILE).write_text("secret")
    assert mode("auto") == mode("head:6379") == "token"
    assert mode("local") is None


def test_the_environment_goes_first(home: Path) -> None:
    assert mode("auto", RAY_AUTH_TOKEN="secret", RAY_AUTH_MODE="disabled") == "disabled"
