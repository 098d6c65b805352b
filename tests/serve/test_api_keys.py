import hashlib
from pathlib import Path

import pytest

from serve import api_keys
from serve.api_keys import (
    Allowance,
    ApiKey,
    ApiKeys,
    check_waiting,
    client_key,
    presented_key,
    read_api_keys,
    require_admin,
    take_tokens,
    tenant_of,
)
from serve.errors import ConfigurationError, NotAllowed, NotAuthenticated, Overloaded


def sha256(key: str) -> str:
    return hashlib.sha256(key.encode()).hexdigest()


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The time, which a test may change."""
    now = [100.0]
    monkeypatch.setattr(api_keys.time, "monotonic", lambda: now[0])
    return now


def test_a_file_names_keys_by_their_hashes(tmp_path: Path) -> None:
    file = tmp_path / "keys.toml"
    file.write_text(
        f'[acme]\nsha256 = "{sha256("one")}"\nrequests_per_minute = 2\n'
        f'[operator]\nsha256 = "{sha256("two")}"\nadmin = true\n'
    )
    keys = ApiKeys(read_api_keys(file))
    assert keys.authenticate("one").name == "acme"
    assert (keys.authenticate("two").admin, keys.authenticate("one").admin) == (True, False)
    for wrong in ("three", sha256("one"), "", None):
        with pytest.raises(NotAuthenticated):
            keys.authenticate(wrong)


@pytest.mark.parametrize(
    ("content", "told"),
    [
        ("", "has no API key"),
        ("a = 1", "a is no table"),
        ("[a]", "a needs sha256"),
        ('[a]\nsha256 = "secret"', "a needs sha256, 64 lower-case hexadecimal digits"),
        (f'[a]\nsha256 = "{"0" * 64}"\nadmn = true', "a has an unknown field admn; known are sha256, admin"),
        (f'[a]\nsha256 = "{"0" * 64}"\nadmin = 1', "admin of a is 1, not true or false"),
        (
            "[a]\nrequests_per_minute = 0x" + "f" * 5000,
            "requests_per_minute of a is a number of 20000 bits, not a whole",
        ),
        ('["a\\nb"]\nadmin = true', r"'a\\nb' is no name for a key: use printable characters"),
        ('"\\n" = 1', r"'\\n' is no name for a key: use printable characters"),
        (f'[a]\nsha256 = "{"0" * 64}"\nrequests_per_minute = 0', "requests_per_minute of a is 0"),
        (f'[a]\nsha256 = "{"0" * 64}"\ntokens_per_minute = true', "tokens_per_minute of a is True"),
        (f'[a]\nsha256 = "{"0" * 64}"\n[b]\nsha256 = "{"0" * 64}"', "two names have the same key"),
        ("[a", "Expected"),
        (f"a = {'[' * 50_000}", "."),
        (f'[a]\nsha256 = "{"0" * 64}"\nrequests_per_minute = {10**13}', "not a whole number from 1 to"),
    ],
)
def test_a_wrong_file_is_one_line(tmp_path: Path, content: str, told: str) -> None:
    (tmp_path / "keys.toml").write_text(content)
    with pytest.raises(ConfigurationError, match=told):
        read_api_keys(tmp_path / "keys.toml")


def test_a_file_that_is_not_there_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match=r"keys\.toml: No such file"):
        read_api_keys(tmp_path / "keys.toml")


def test_an_allowance_fills_up_evenly(clock: list[float]) -> None:
    allowance = Allowance(60)
    for _ in range(60):
        allowance.take(1, "requests")
    with pytest.raises(Overloaded, match=r"has used up its 60 requests a minute: try again in 1\.0 s") as refused:
        allowance.take(1, "requests")
    assert refused.value.retry_after == pytest.approx(1)
    clock[0] += 2
    allowance.take(2, "requests")
    clock[0] += 1000
    allowance.take(60, "requests")
    with pytest.raises(Overloaded):
        allowance.take(1, "requests")


def test_more_than_a_minutes_worth_is_paid_off_later(clock: list[float]) -> None:
    allowance = Allowance(60)
    allowance.take(90, "tokens")
    with pytest.raises(Overloaded) as refused:
        allowance.take(1, "tokens")
    assert refused.value.retry_after == pytest.approx(31)


def test_a_reload_keeps_what_is_left_of_an_allowance(clock: list[float]) -> None:
    keys = ApiKeys({"acme": ApiKey(name="acme", sha256=sha256("one"), requests=Allowance(1))})
    keys.authenticate("one")
    keys.replace({"acme": ApiKey(name="acme", sha256=sha256("new"), requests=Allowance(1))})
    with pytest.raises(NotAuthenticated):
        keys.authenticate("one")
    with pytest.raises(Overloaded):
        keys.authenticate("new")
    keys.replace({"acme": ApiKey(name="acme", sha256=sha256("new"), requests=Allowance(2))})
    keys.authenticate("new")


def test_a_request_has_the_rights_of_its_key(clock: list[float]) -> None:
    require_admin()
    take_tokens(1_000_000)
    assert tenant_of("tone") == "tone"
    token = client_key.set(ApiKey(name="acme", sha256="", tokens=Allowance(10)))
    try:
        assert tenant_of("tone") == "acme"
        take_tokens(10)
        with pytest.raises(Overloaded, match="10 tokens a minute"):
            take_tokens(1)
        with pytest.raises(NotAllowed, match="not an administrator's"):
            require_admin()
    finally:
        client_key.reset(token)


def test_a_key_fills_half_of_a_queue() -> None:
    check_waiting(5, 100, limit=10)
    token = client_key.set(ApiKey(name="acme", sha256=""))
    try:
        check_waiting(0, 10, limit=10)
        check_waiting(3, 2, limit=10)
        with pytest.raises(Overloaded, match="4 texts of your key wait already"):
            check_waiting(4, 2, limit=10)
    finally:
        client_key.reset(token)


@pytest.mark.parametrize(
    ("headers", "key"),
    [
        ({b"authorization": b"Bearer one"}, "one"),
        ({b"authorization": b"bearer  one "}, "one"),
        ({b"x-api-key": b"one"}, "one"),
        ({b"authorization": b"Basic b25l"}, None),
        ({b"authorization": b"Bearer"}, None),
        ({}, None),
    ],
)
def test_a_key_is_presented_in_a_header(headers: dict[bytes, bytes], key: str | None) -> None:
    assert presented_key(headers) == key
