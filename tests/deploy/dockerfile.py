"""Dockerfiles as data: their stages and instructions, and which files of the repository a build gets."""

import json
import re
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path

ROOT = Path(__file__).parents[2]
DOCKERFILES = ("deploy/Dockerfile", "deploy/Dockerfile.cuda")
VARIABLE = re.compile(r"\$\{(\w+)\}")
ASSIGNMENT = re.compile(r'(\S+?)=("[^"]*"|\S+)')
BUILT_IN = "/usr/local/bin:/usr/local/sbin:/usr/sbin:/usr/bin:/sbin:/bin"
"""The PATH of Python's images."""


@dataclass(kw_only=True)
class Stage:
    """A stage of a build: its base, its name and its instructions, each as a keyword and the rest."""

    base: str
    name: str
    instructions: list[tuple[str, str]] = field(default_factory=list)

    def all(self, keyword: str) -> list[str]:
        return [rest for one, rest in self.instructions if one == keyword]

    def environment(self) -> dict[str, str]:
        found = {"PATH": BUILT_IN}
        for rest in self.all("ENV"):
            found |= assignments(rest)
        return found

    def json(self, keyword: str) -> list[str]:
        """Return the one instruction of a keyword that has the form of a JSON list, without options before it."""
        (rest,) = self.all(keyword)
        found = json.loads(rest[rest.index("[") :])
        assert isinstance(found, list)
        return found


@cache
def read_dockerfile(path: str) -> tuple[Stage, ...]:
    """Return the stages of a Dockerfile; arguments before the first are put in, those of a stage when it is built."""
    text = re.sub(r"^\s*#.*\n", "", (ROOT / path).read_text("utf-8"), flags=re.MULTILINE).replace("\\\n", " ")
    stages: list[Stage] = []
    before: dict[str, str] = {}
    for line in filter(None, map(str.strip, text.splitlines())):
        keyword, rest = line.split(maxsplit=1)
        if keyword == "FROM":
            base, _, name = filled(rest, before).partition(" AS ")
            stages.append(Stage(base=base, name=name))
        elif not stages:
            assert keyword == "ARG"
            before |= assignments(rest)
        else:
            stages[-1].instructions.append((keyword, rest))
    return tuple(stages)


def assignments(rest: str) -> dict[str, str]:
    """Return the variables that an ARG or ENV sets."""
    return {name: value.strip('"') for name, value in ASSIGNMENT.findall(rest)}


def filled(text: str, variables: Mapping[str, str]) -> str:
    """Put the values of variables in the place of ${NAME}."""
    return VARIABLE.sub(lambda found: variables[found[1]], text)


def build_context() -> list[str]:
    """Return the files that a build gets: those of the repository, without what .dockerignore leaves out."""
    files = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    ).stdout.splitlines()
    lines = [line.strip() for line in (ROOT / ".dockerignore").read_text("utf-8").splitlines()]
    rules = [line for line in lines if line and not line.startswith("#")]
    return [file for file in files if (ROOT / file).is_file() and not is_ignored(file, rules)]


def is_ignored(file: str, rules: list[str]) -> bool:
    """Return True if the last rule that names a file or a folder above it leaves it out."""
    above = [file, *(str(folder) for folder in Path(file).parents if str(folder) != ".")]
    ignored = False
    for rule in rules:
        pattern = re.escape(rule.removeprefix("!")).replace(r"\*\*/", "(?:.*/)?").replace(r"\*", "[^/]*")
        if any(re.fullmatch(pattern, path) for path in above):
            ignored = not rule.startswith("!")
    return ignored
