"""`serve` installs without torch and transformers: each of its modules is imported there, and every protocol served."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
TEST_TOOLS = ["httpx", "hypothesis", "onnx", "pytest", "pytest-timeout"]
"""What the tests of serve need besides serve itself; onnx builds their little models."""
SERVING = [
    "tests/serve/classification/test_classifier.py",
    "tests/serve/generation/test_chat_template.py",
    "tests/serve/http/huggingface",
    "tests/serve/http/oip/test_generate.py",
    "tests/serve/http/oip/test_infer.py",
    "tests/serve/http/openai/test_chat.py",
    "tests/serve/http/openai/test_completions.py",
    "tests/serve/http/openai/test_structured_output.py",
    "tests/serve/http/tei",
    "tests/serve/http/vllm",
    "tests/serve/telemetry/test_prometheus.py",
    "tests/serve/test_check.py",
    "tests/serve/test_init.py",
]
"""Tests of every protocol: what could miss a package while it serves. `EVERY_TEST` has the others."""
COMMAND = ["tests/serve/test_cli.py", "-k", "sigterm or check_opens or hang_up_reads"]
"""Tests of the installed command: it serves, stops, and reads its settings again."""
EVERY_TEST = ["tests/serve"]
EXTRAS = {"google", "grpc", "opentelemetry", "ray"}
"""Packages of serve's other extras."""
IMPORT_EACH = """
import ast, importlib, json, pkgutil
from importlib.util import find_spec
from pathlib import Path
import serve

missing = []
for module in pkgutil.walk_packages(serve.__path__, "serve."):
    for node in ast.walk(ast.parse(Path(find_spec(module.name).origin).read_text("utf-8"))):
        names = [one.name for one in node.names] if isinstance(node, ast.Import) else []
        names += [node.module] if isinstance(node, ast.ImportFrom) and not node.level else []
        for package in {name.partition(".")[0] for name in names}:
            if find_spec(package) is None:
                missing.append([module.name, package])
    try:
        importlib.import_module(module.name)
    except ModuleNotFoundError as error:
        missing.append([module.name, error.name.partition(".")[0]])
print(json.dumps(missing))
"""
"""Prints modules of serve with each package that they import, at the top or in a function, and that is not there."""


@pytest.fixture(scope="module")
def python(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("alone")
    subprocess.run([sys.executable, "-m", "venv", folder], check=True)
    python = folder / "bin" / "python"
    pip = [
        python,
        "-m",
        "pip",
        "install",
        "--quiet",
        "--no-compile",
        "--disable-pip-version-check",
        "-c",
        ROOT / "constraints.txt",
    ]
    result = subprocess.run([*pip, f"{ROOT}[cpu]", *TEST_TOOLS], capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
    return python


@pytest.mark.slow
def test_neither_torch_nor_transformers_is_installed(python: Path) -> None:
    for module in ("torch", "transformers", "peft"):
        assert subprocess.run([python, "-c", f"import {module}"], capture_output=True).returncode == 1


@pytest.mark.slow
def test_every_package_that_serve_imports_is_installed_but_for_those_of_other_extras(python: Path) -> None:
    result = subprocess.run([python, "-c", IMPORT_EACH], cwd=ROOT, capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
    missing = json.loads(result.stdout)
    assert [[module, package] for module, package in missing if package not in EXTRAS] == []
    assert len({module for module, _ in missing}) < 20, "most of serve needs none of them"


def run_tests(python: Path, *arguments: str) -> str:
    """Run pytest in the environment, and return what it printed."""
    # Few examples show that nothing needs torch; all of them run where it is installed.
    options = ["-q", "-p", "no:cacheprovider", "--hypothesis-profile", "few"]
    result = subprocess.run([python, "-m", "pytest", *arguments, *options], cwd=ROOT, capture_output=True, text=True)
    assert result.returncode == 0, result.stdout[-3000:]
    return result.stdout


@pytest.mark.slow
@pytest.mark.parametrize(
    "chosen",
    [
        pytest.param([*SERVING, "-m", "not slow"], id="serving"),
        pytest.param(COMMAND, id="command"),
        pytest.param(EVERY_TEST, id="every-test", marks=pytest.mark.soak),
    ],
)
def test_the_tests_of_serve_pass(python: Path, chosen: list[str]) -> None:
    assert " passed" in run_tests(python, *chosen)


@pytest.mark.slow
@pytest.mark.parametrize("command", ["adamix-train", "adamix-export", "adamix-serve", "adamix-predict"])
def test_commands_explain_themselves_without_torch(python: Path, command: str) -> None:
    result = subprocess.run([python.with_name(command), "--help"], capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
    assert "examples:" in result.stdout


@pytest.mark.slow
@pytest.mark.parametrize(
    ("command", "extra"),
    [
        (["adamix-train", "--base", "base", "--train-file", "data.csv", "--out", "run"], "train"),
        (["adamix-export", "run", "bundle"], "export"),
        (["adamix-demo", "--help"], "demo"),
    ],
)
def test_the_other_commands_name_their_extra(python: Path, command: list[str], extra: str, tmp_path: Path) -> None:
    (tmp_path / "base").mkdir()
    (tmp_path / "base" / "config.json").write_text('{"model_type": "bert"}')
    (tmp_path / "data.csv").write_text("text,label\n" + "good,yes\nbad,no\n" * 20)
    name, *arguments = command
    run = subprocess.run([python.with_name(name), *arguments], cwd=tmp_path, capture_output=True, text=True)
    assert run.returncode == 1
    assert f"pip install '.[{extra}" in run.stderr
    assert "Traceback" not in run.stderr
