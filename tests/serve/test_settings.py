from pathlib import Path

import pytest

from serve.args import make_parser, parse_args
from serve.errors import ConfigurationError
from serve.settings import COMMAND_LINE_ONLY, RESERVED, read_settings, unknown_variables, variable_of

YAML = """
bundles: [one, two]
port: 9000
adapter: mood
ensemble: yes
max_queued_requests: 7   # as Python spells it
timeout: 1e1
"""
TOML = """
bundles = ["one", "two"]
port = 9000
adapter = "mood"
ensemble = true
max-queued-requests = 7
timeout = 1e1
"""


@pytest.mark.parametrize(("name", "content"), [("a.yaml", YAML), ("a.yml", YAML), ("a.toml", TOML)])
def test_a_file_says_what_the_command_line_would(tmp_path: Path, name: str, content: str) -> None:
    file = tmp_path / name
    file.write_text(content)
    flags = ["--port", "9000", "--adapter", "mood", "--ensemble", "--max-queued-requests", "7", "--timeout", "10"]
    expected = vars(read_settings(make_parser, ["one", "two", *flags], {}))
    assert vars(read_settings(make_parser, ["--config", str(file)], {})) == {**expected, "config": file}


def test_the_command_line_goes_before_the_environment_and_that_before_the_file(tmp_path: Path) -> None:
    file = tmp_path / "a.yaml"
    file.write_text("bundles: file\nport: 1\nthreads: 1\nslots: 1\nadapter: [file, file2]\ncors-origin: http://file")
    environment = {
        "ADAMIX_PORT": "2",
        "ADAMIX_THREADS": "2",
        "ADAMIX_ADAPTER": "variable,variable2",
        "ADAMIX_CONFIG": str(file),
    }
    found = read_settings(make_parser, ["--port", "3", "--adapter", "line"], environment)
    assert (found.port, found.threads, found.slots) == (3, 2, 1)
    assert (found.bundles, found.adapter, found.cors_origin) == ([Path("file")], [Path("line")], ["http://file"])
    assert read_settings(make_parser, [], environment).adapter == [Path("variable"), Path("variable2")]
    assert read_settings(make_parser, ["line"], environment).bundles == [Path("line")]


def test_a_value_that_is_the_default_goes_before_the_file_too(tmp_path: Path) -> None:
    file = tmp_path / "a.yaml"
    file.write_text("port: 1\nensemble: true\nprefix-tokens: 5")
    found = read_settings(
        make_parser, ["--config", str(file), "--port", "8080", "--prefix-tokens", "0"], {"ADAMIX_ENSEMBLE": "false"}
    )
    assert (found.port, found.ensemble, found.prefix_tokens) == (8080, None, 0)


WRONG = {
    "prot: 1": "unknown key 'prot'; did you mean port?",
    "xyz: 1": "unknown key 'xyz'; adamix-serve --help lists the flags",
    "config: a.yaml": "config: a configuration names no other one, leave it out",
    "[port, host]: 1": "line 1: a key is a list or a mapping, write the name of a flag",
    "host: a\n{a: b}: 1": "line 2: a key is a list or a mapping, write the name of a flag",
    "adapter: [a, '']": "adapter: a value of the list is empty, leave out the comma or the value",
    "check: true": "unknown key 'check'",
    "port: 99999": "port: 99999 is not a port: ports are 0 to 65535",
    "port: many": "port: 'many' is not a whole number",
    "port:": "port: '' is not a whole number",
    "port: [1, 2]": "port: it takes one value, not 2",
    "port: []": "port: it takes one value, not 0",
    "api-keys: []": "api-keys: it takes one value, not 0",
    "no-cache: []": "no-cache: it takes one value, not 0",
    "port: {a: 1}": "port is neither a value nor a list of values",
    "port: 1\nport: 2": "port is there twice",
    "provider: tpu": "provider: invalid choice: 'tpu'",
    "ensemble: maybe": "ensemble: 'maybe' is neither true nor false",
    "timeout: soon": "timeout: 'soon' is not a number",
    "drain-delay: inf": "drain-delay: inf is not a number of seconds",
    "adapter-dir: nowhere": "adapter-dir: there is no folder nowhere",
    "just words": "there are no keys in it",
    "port: [": "line 1: ",
    "a: !!python/object/apply:os.system [true]": "unknown key 'a'",
}


@pytest.mark.parametrize("text", ["a,", ",a", "a,,b", "a, ,b", ","])
def test_a_list_with_an_empty_value_is_refused(text: str) -> None:
    """It would be the working directory."""
    with pytest.raises(ConfigurationError, match="ADAMIX_ADAPTER: a value of the list is empty, leave out the comma"):
        read_settings(make_parser, ["bundle"], {"ADAMIX_ADAPTER": text})


@pytest.mark.parametrize(("content", "message"), WRONG.items())
def test_what_is_wrong_is_one_line_with_the_key_and_the_file(tmp_path: Path, content: str, message: str) -> None:
    file = tmp_path / "serve.yaml"
    file.write_text(content)
    with pytest.raises(ConfigurationError) as error:
        read_settings(make_parser, ["--config", str(file)], {})
    assert str(error.value).startswith(f"{file}: {message}")
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("port = ", "Invalid value (at end of document)"),
        ("port = 1\nport = 2", "Cannot overwrite a value"),
        ("[serve]\nport = 1", "serve is neither a value nor a list of values"),
        ("port = 1.5", "port: '1.5' is not a whole number"),
        ("port = true", "port: 'true' is not a whole number"),
    ],
)
def test_what_is_wrong_in_toml_is_one_line_as_well(tmp_path: Path, content: str, message: str) -> None:
    file = tmp_path / "serve.toml"
    file.write_text(content)
    with pytest.raises(ConfigurationError) as error:
        read_settings(make_parser, ["--config", str(file)], {})
    assert str(error.value).startswith(f"{file}: {message}")


def test_a_file_that_cannot_be_read_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_bytes(b"port: \xff")
    (tmp_path / "deep.yaml").write_text("a: " + "[" * 100_000)
    for name, message in {
        "none.yaml": "cannot be read: No such file or directory",
        "a.yaml": "cannot be read: it is not UTF-8",
        "a.ini": "the name of a configuration ends with .yaml or .yml or .toml",
        "deep.yaml": "maximum recursion depth exceeded",
    }.items():
        with pytest.raises(ConfigurationError, match=message):
            read_settings(make_parser, ["--config", str(tmp_path / name)], {})


@pytest.mark.parametrize(
    ("variable", "value", "message"),
    [
        ("ADAMIX_PORT", "99999", "ADAMIX_PORT: 99999 is not a port"),
        ("ADAMIX_PORT", "tcp://10.0.0.1:8080", "ADAMIX_PORT: tcp://10.0.0.1:8080 is an address, such as Kubernetes"),
        ("ADAMIX_NO_CACHE", "perhaps", "ADAMIX_NO_CACHE: 'perhaps' is neither true nor false"),
        ("ADAMIX_THREADS", "1,2", "ADAMIX_THREADS: '1,2' is not a whole number"),
    ],
)
def test_a_wrong_variable_is_named(variable: str, value: str, message: str) -> None:
    with pytest.raises(ConfigurationError) as error:
        read_settings(make_parser, [], {variable: value})
    assert str(error.value).startswith(message)


def test_every_flag_has_a_variable() -> None:
    keys = {action.option_strings[-1].lstrip("-") for action in make_parser()._actions if action.option_strings}
    variables = {variable_of(key) for key in keys - COMMAND_LINE_ONLY} - RESERVED
    assert {"ADAMIX_MAX_CLIENT_BATCH_SIZE", "ADAMIX_EXIT_TIMEOUT_SECS", "ADAMIX_CONFIG"} <= variables
    assert unknown_variables(make_parser(), dict.fromkeys([*variables, "ADAMIX_BUNDLES", "HOME"], "1")) == []
    others = {"ADAMIX_PROT": "1", "ADAMIX_CHECK": "1", "ADAMIX_CACHE": "caches"}
    assert unknown_variables(make_parser(), others) == ["ADAMIX_CHECK", "ADAMIX_PROT"]


def test_the_variable_of_all_caches_keeps_its_meaning(tmp_path: Path) -> None:
    assert read_settings(make_parser, [], {"ADAMIX_CACHE": str(tmp_path)}).cache is None


def test_an_empty_variable_is_none() -> None:
    assert read_settings(make_parser, [], {"ADAMIX_PORT": ""}).port == 8080


def test_a_bundle_has_to_be_named_somewhere(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit):
        parse_args([])
    assert "give a BUNDLE" in capsys.readouterr().err
    monkeypatch.setenv("ADAMIX_BUNDLES", "one,two")
    assert parse_args([]).bundles == [Path("one"), Path("two")]
