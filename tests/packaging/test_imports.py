"""The directions in which the packages may import each other."""

import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PACKAGES = ("adamix_cli", "adamix_train", "adamix_export", "adamix_predict", "serve", "demos", "benchmarks")
CONTRACTS = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["importlinter"]["contracts"]


def test_the_contracts_hold() -> None:
    lint = Path(sys.executable).with_name("lint-imports")
    result = subprocess.run([lint, "--no-cache"], cwd=ROOT, capture_output=True, text=True)
    assert result.returncode == 0, result.stdout


VIOLATIONS = {
    "serve imports the trainer": ("serve/wrong.py", "import adamix_train", 0),
    "serve imports torch": ("serve/wrong.py", "import torch", 1),
    "a protocol imports an engine": ("serve/http/wrong.py", "import serve.classification.classifier", 2),
    "a protocol imports the runtime through another module": ("serve/http/wrong.py", "import serve.args", 2),
    "metrics import a bank": ("serve/telemetry/wrong.py", "import serve.adapters.bank", 2),
    "a bundle imports an engine": ("serve/bundle/wrong.py", "import serve.classification.classifier", 3),
    "the seam imports a protocol": ("serve/engine.py", "import serve.http.app", 3),
    "one engine imports the other": ("serve/generation/wrong.py", "import serve.classification.classifier", 3),
    "a module of serve has no layer": ("serve/wrong.py", "", 3),
    "a graph pass imports torch": ("adamix_export/passes/wrong.py", "import torch", 4),
    "a precision imports the trainer": ("adamix_export/precision/wrong.py", "import adamix_train", 4),
    "predictions import torch": ("adamix_predict/wrong.py", "import torch", 5),
    "a protocol imports another": ("serve/http/tei/wrong.py", "import serve.http.openai.models", 6),
    "vLLM's protocol imports another than OpenAI's": ("serve/http/vllm/wrong.py", "import serve.http.oip.infer", 7),
    "a demo imports an engine": ("demos/wrong.py", "import serve.generation.generator", 8),
}
"""A file that is written, what it imports, and the contract that this breaks."""


@pytest.fixture(scope="module")
def copied(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The configuration and the modules of all packages."""
    folder = tmp_path_factory.mktemp("copy")
    shutil.copy(ROOT / "pyproject.toml", folder)
    for package in PACKAGES:
        shutil.copytree(ROOT / package, folder / package, ignore=_all_but_modules)
    return folder


@pytest.mark.parametrize(("file", "content", "contract"), VIOLATIONS.values(), ids=VIOLATIONS)
def test_a_broken_contract_would_be_seen(file: str, content: str, contract: int, copied: Path) -> None:
    written = copied / file
    before = written.read_text() if written.exists() else None
    written.write_text(content + "\n")
    try:
        lint = Path(sys.executable).with_name("lint-imports")
        result = subprocess.run([lint, "--no-cache"], cwd=copied, capture_output=True, text=True)
    finally:
        written.write_text(before) if before is not None else written.unlink()
    assert result.returncode == 1
    assert f"{CONTRACTS[contract]['name']} BROKEN" in " ".join(result.stdout.split()), result.stdout + result.stderr


def _all_but_modules(folder: str, names: list[str]) -> list[str]:
    return [name for name in names if not (name.endswith(".py") or (Path(folder) / name).is_dir())]


def test_no_extra_brings_both_runtimes() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    extras = project["optional-dependencies"]

    def runtimes(extra: str) -> set[str]:
        found: set[str] = set()
        for requirement in extras[extra]:
            if requirement.startswith("adamix["):
                for other in requirement.removeprefix("adamix[").removesuffix("]").split(","):
                    found |= runtimes(other)
            elif requirement.startswith("onnxruntime") and not requirement.startswith("onnxruntime-ep-"):
                found.add(requirement.partition(">")[0].partition("[")[0])
        return found

    assert not any(requirement.startswith(("onnxruntime", "torch")) for requirement in project["dependencies"])
    assert {extra: runtimes(extra) for extra in ("cpu", "gpu", "train")} == {
        "cpu": {"onnxruntime"},
        "gpu": {"onnxruntime-gpu"},
        "train": set(),
    }
    assert all(len(runtimes(extra)) <= 1 for extra in extras)
