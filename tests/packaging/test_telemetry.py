"""ONNX Runtime's telemetry is off wherever the project runs it: nothing is sent, nothing kept under the home folder."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import onnx
import pytest
from onnx import TensorProto, helper

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[2]
SWITCH = "ORT_DISABLE_TELEMETRY"
PACKAGES = ("adamix_cli", "adamix_train", "adamix_export", "adamix_predict", "serve", "demos", "benchmarks")
RUNTIME = re.compile(r"^\s*(import|from) onnxruntime\b", re.MULTILINE)
OPEN = """
import sys, time
from pathlib import Path
from serve.runtime.providers import CPU, ProviderChoice
from serve.runtime.session import open_session
open_session(Path(sys.argv[1]), ProviderChoice(CPU, "a test"))
time.sleep(float(sys.argv[2]))
"""
UPLOADS = 12
"""Seconds after which the runtime's telemetry, were it on, has looked its collector up: it begins after eight."""


def run(home: Path, *command: str | Path, **changes: str) -> str:
    """Run Python without the switch of these tests and with a home folder of its own; return what it prints."""
    home.mkdir(exist_ok=True)
    kept = {name: value for name, value in os.environ.items() if name not in (SWITCH, "XDG_CACHE_HOME")}
    environment = {**kept, "HOME": str(home), "PYTHONPATH": str(ROOT), **changes}
    return subprocess.run(command, env=environment, check=True, capture_output=True, text=True).stdout.strip()


def imports_the_runtime(package: str) -> bool:
    return any(RUNTIME.search(file.read_text("utf-8")) for file in (ROOT / package).rglob("*.py"))


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A graph that gives back its input."""
    edges = [[helper.make_tensor_value_info(name, TensorProto.FLOAT, [1])] for name in ("given", "found")]
    graph = helper.make_graph([helper.make_node("Identity", ["given"], ["found"])], "identity", *edges)
    file = tmp_path_factory.mktemp("model") / "model.onnx"
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10), file)
    return file


@pytest.mark.parametrize("package", [package for package in PACKAGES if imports_the_runtime(package)])
def test_a_package_that_imports_the_runtime_turns_it_off_before_its_first_module(package: str, tmp_path: Path) -> None:
    code = f"import sys, os, {package}; print(os.environ['{SWITCH}'], 'onnxruntime' in sys.modules)"
    assert run(tmp_path / "home", sys.executable, "-c", code) == "1 False"


@pytest.mark.parametrize(("given", "kept"), [("yes", "yes"), ("0", "0"), ("", "1")])
def test_what_the_environment_says_is_kept(given: str, kept: str, tmp_path: Path) -> None:
    code = f"import os, serve; print(os.environ['{SWITCH}'])"
    assert run(tmp_path / "home", sys.executable, "-c", code, **{SWITCH: given}) == kept


def test_a_session_leaves_the_home_folder_empty(model: Path, tmp_path: Path) -> None:
    home = tmp_path / "home"
    run(home, sys.executable, "-c", OPEN, model, "0", PYTHONDONTWRITEBYTECODE="1")
    assert list(home.rglob("*")) == []


@pytest.mark.skipif(not shutil.which("strace"), reason="strace is not installed")
def test_a_session_opens_no_socket(model: Path, tmp_path: Path) -> None:
    trace = tmp_path / "trace"
    strace = ("strace", "--follow-forks", "--quiet=all", "--trace=socket,connect", "--output", trace)
    run(tmp_path / "home", *strace, sys.executable, "-c", OPEN, model, str(UPLOADS))
    assert trace.read_text() == ""
