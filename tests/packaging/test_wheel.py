"""The wheel holds every module, and what goes with them."""

import subprocess
import sys
import tomllib
import zipfile
from collections.abc import Iterator
from email.parser import Parser
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PACKAGES = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["hatch"]["build"]["targets"]["wheel"][
    "packages"
]

PLUG_IN = "optimum"
"""Namespace package of another project, which holds one file of ours."""


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Iterator[zipfile.ZipFile]:
    folder = tmp_path_factory.mktemp("wheel")
    build = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--disable-pip-version-check"]
    result = subprocess.run([*build, "--wheel-dir", folder, ROOT], capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
    (file,) = folder.glob("*.whl")
    with zipfile.ZipFile(file) as wheel:
        yield wheel


@pytest.mark.slow
def test_every_module_is_in_the_wheel(wheel: zipfile.ZipFile) -> None:
    """The build leaves out what .gitignore names, whether or not it is committed."""
    modules = {file.relative_to(ROOT).as_posix() for package in PACKAGES for file in (ROOT / package).rglob("*.py")}
    assert modules == {name for name in wheel.namelist() if name.endswith(".py")}


@pytest.mark.slow
def test_the_wheel_is_typed_and_licensed(wheel: zipfile.ZipFile) -> None:
    names = set(wheel.namelist())
    (about,) = [name for name in names if name.endswith(".dist-info/METADATA")]
    metadata = Parser().parsestr(wheel.read(about).decode())
    assert {f"{package}/py.typed" for package in PACKAGES if package != PLUG_IN} <= names
    assert metadata["License-Expression"] == "Apache-2.0"
    assert any(name.endswith("/licenses/LICENSE") for name in names)


def test_the_licence_is_apache_in_full() -> None:
    text = (ROOT / "LICENSE").read_text()
    assert "Apache License" in text.splitlines()[1]
    assert "9. Accepting Warranty or Additional Liability." in text
    assert "APPENDIX: How to apply the Apache License to your work." in text
