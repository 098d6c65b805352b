"""Settings from the command line, else from the environment, else from a file; each by the name of its flag."""

import argparse
import difflib
import tomllib
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from serve.errors import ConfigurationError

PREFIX = "ADAMIX_"
CONFIG = "config"
"""Setting that names the file."""
COMMAND_LINE_ONLY = frozenset({"help", "check", "json", "print-completion"})
"""Flags that say what to do rather than how to serve."""
RESERVED = frozenset({"ADAMIX_CACHE", "ADAMIX_DATA"})
"""Variables that are no settings: the folder above all caches, which is not that of --cache, and data of benchmarks."""
SWITCHES = {word: on for on, words in ((True, "true yes on 1"), (False, "false no off 0")) for word in words.split()}
Values = dict[str, list[str]]
"""The values of each key, as texts: the flags' own types read them."""


def read_settings(
    make_parser: Callable[..., argparse.ArgumentParser], argv: Sequence[str] | None, environment: Mapping[str, str]
) -> argparse.Namespace:
    """Return all settings.

    Args:
        make_parser: Returns the parser of the flags, none of which is required; its keyword arguments are those of
            `ArgumentParser`.
        argv: The command line; None takes that of the process.
        environment: Variables by name; those that are empty are not there.

    Raises:
        ConfigurationError: A key of the file is unknown, or a value in it or in a variable is wrong.
    """
    parser = make_parser(exit_on_error=False)
    actions = _actions(parser)
    given = given_settings(make_parser(), argv)
    variables: dict[str, Any] = {}
    for key, action in actions.items():
        text = environment.get(variable := variable_of(key), "")
        if text and variable not in RESERVED:
            values = text.split(",") if _is_list(action) else [text]
            variables |= _parsed(parser, key, action, values, source=variable)
    settings = {**vars(parser.parse_args([])), **variables, **given}
    if (file := settings.get(CONFIG)) is None:
        return argparse.Namespace(**settings)
    from_file: dict[str, Any] = {}
    for key, values in read_file(Path(file)).items():
        name = key.replace("_", "-")
        if name == CONFIG:
            raise ConfigurationError(f"{file}: {key}: a configuration names no other one, leave it out")
        if name not in actions:
            raise ConfigurationError(f"{file}: {_unknown(key, actions)}")
        from_file |= _parsed(parser, name, actions[name], values, source=f"{file}: {key}")
    return argparse.Namespace(**{**settings, **from_file, **variables, **given})


def unknown_variables(parser: argparse.ArgumentParser, environment: Mapping[str, str]) -> list[str]:
    """Return the variables that look like settings and are none."""
    known = {variable_of(key) for key in _actions(parser)} | RESERVED
    return sorted(name for name in environment if name.startswith(PREFIX) and name not in known)


def variable_of(key: str) -> str:
    """Return the variable of a setting."""
    return PREFIX + key.upper().replace("-", "_")


def read_file(file: Path) -> Values:
    """Return the values in a file by key.

    Raises:
        ConfigurationError: The file cannot be read, has another form than its name says, or holds more than values and
            lists of them.
    """
    if file.suffix not in READERS:
        raise ConfigurationError(f"{file}: the name of a configuration ends with {' or '.join(READERS)}")
    values: Values = {}
    try:
        for key, value in READERS[file.suffix](file.read_text("utf-8")):
            if key in values:
                raise ConfigurationError(f"{file}: {key} is there twice")
            values[key] = value
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or "it is not UTF-8"
        raise ConfigurationError(f"{file} cannot be read: {reason}") from error
    except (ValueError, RecursionError, yaml.YAMLError) as error:
        raise ConfigurationError(f"{file}: {_reason(error)}") from error
    return values


def given_settings(parser: argparse.ArgumentParser, argv: Sequence[str] | None) -> dict[str, Any]:
    """Return the settings that a command line gives, without defaults."""
    nothing = argparse.Namespace(**dict.fromkeys(vars(parser.parse_args([]))))
    return {name: value for name, value in vars(parser.parse_args(argv, nothing)).items() if value not in (None, [])}


def _parsed(
    parser: argparse.ArgumentParser, key: str, action: argparse.Action, values: list[str], *, source: str
) -> dict[str, Any]:
    """Return the setting of a key, read as if its values were on the command line."""
    if len(values) != 1 and not _is_list(action):
        raise ConfigurationError(f"{source}: it takes one value, not {len(values)}")
    if len(values) > 1 and not all(value.strip() for value in values):
        raise ConfigurationError(f"{source}: a value of the list is empty, leave out the comma or the value")
    if not action.option_strings:
        flags = ["--", *values]
    elif action.nargs == 0:
        if values[0].lower() not in SWITCHES:
            raise ConfigurationError(f"{source}: {values[0]!r} is neither true nor false")
        flags = [f"--{key}"] if SWITCHES[values[0].lower()] else []
    else:
        flags = [f"--{key}={value}" for value in values]
    try:
        found = given_settings(parser, flags)
    except argparse.ArgumentError as error:
        raise ConfigurationError(f"{source}: {error.message}") from error
    return {action.dest: found.get(action.dest, action.default)}


def _actions(parser: argparse.ArgumentParser) -> dict[str, argparse.Action]:
    """Return what settings there are, by key: the long flag without its dashes, or the name of a positional."""
    keys = ((one.option_strings[-1].lstrip("-") if one.option_strings else one.dest, one) for one in parser._actions)
    return {key: action for key, action in keys if key not in COMMAND_LINE_ONLY}


def _is_list(action: argparse.Action) -> bool:
    return not action.option_strings or isinstance(action.default, list)


def _unknown(key: str, known: Mapping[str, object]) -> str:
    close = difflib.get_close_matches(key.replace("_", "-"), known, 1)
    return f"unknown key {key!r}; " + (f"did you mean {close[0]}?" if close else "adamix-serve --help lists the flags")


def _from_toml(text: str) -> Iterator[tuple[str, list[str]]]:
    for key, value in tomllib.loads(text).items():
        values = value if isinstance(value, list) else [value]
        if any(isinstance(one, list | dict) for one in values):
            raise ValueError(f"{key} is neither a value nor a list of values")
        yield key, [str(one).lower() if isinstance(one, bool) else str(one) for one in values]


def _from_yaml(text: str) -> Iterator[tuple[str, list[str]]]:
    """Yield keys and values as they are written: no value is turned into a number, a date or a truth on the way."""
    document = yaml.compose(text, yaml.BaseLoader)
    if document is None:
        return
    if not isinstance(document, yaml.MappingNode):
        raise ValueError("there are no keys in it: write a line KEY: VALUE for each flag")
    for key, value in document.value:
        values = value.value if isinstance(value, yaml.SequenceNode) else [value]
        if not isinstance(key, yaml.ScalarNode):
            raise ValueError(f"line {key.start_mark.line + 1}: a key is a list or a mapping, write the name of a flag")
        if not all(isinstance(one, yaml.ScalarNode) for one in values):
            raise ValueError(f"{key.value} is neither a value nor a list of values")
        yield key.value, [one.value for one in values]


READERS: dict[str, Callable[[str], Iterator[tuple[str, list[str]]]]] = {
    ".yaml": _from_yaml,
    ".yml": _from_yaml,
    ".toml": _from_toml,
}
"""Readers of configurations by the end of a file's name."""


def _reason(error: Exception) -> str:
    """Return one line on a file that cannot be parsed."""
    if isinstance(error, yaml.MarkedYAMLError) and error.problem_mark is not None:
        return f"line {error.problem_mark.line + 1}: {error.problem}"
    return str(error).splitlines()[0]
