"""Pack the packages that travel: `python -m benchmarks.gpu.wheels OUT`, where there is a network.

OUT gets `runtime.tar.xz` (ONNX Runtime for CUDA without its TensorRT provider, and what the engines import) and
`tests.tar.xz` (what the tests import), each cut into parts of 56 MB with its sha256. Unpacked into one folder that
comes first on PYTHONPATH they need no installation.
"""

import argparse
import sys
import tempfile
import tomllib
import zipfile
from collections.abc import Sequence
from pathlib import Path

from benchmarks.gpu.packing import PackingError, listing, pack, run

ROOT = Path(__file__).parents[2]
ONNXRUNTIME = "onnxruntime-gpu==1.31.1"
PYTHON = "3.12"
PLATFORMS = (
    "manylinux_2_31_x86_64",
    "manylinux_2_28_x86_64",
    "manylinux_2_27_x86_64",
    "manylinux_2_17_x86_64",
    "manylinux2014_x86_64",
)
UNUSED = "onnxruntime/capi/libonnxruntime_providers_tensorrt.so"
ARCHIVES: dict[str, tuple[str, ...]] = {
    "runtime": ("llguidance", "onnx-ir", "optimum"),
    "tests": (
        "annotated-doc",
        "annotated-types",
        "cloudpickle",
        "fastapi",
        "httptools",
        "joblib",
        "narwhals",
        "nltk",
        "opentelemetry-api",
        "prometheus_client",
        "pydantic",
        "pydantic_core",
        "pytest-timeout",
        "scikit-learn",
        "scipy",
        "starlette",
        "threadpoolctl",
        "typing-inspection",
        "uvicorn",
        "uvloop",
    ),
}
"""Packages of each archive, in the versions of constraints.txt."""


def main(argv: list[str] | None = None) -> None:
    """Write both archives in parts."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.gpu.wheels", description="Pack the packages that travel."
    )
    parser.add_argument("out", type=Path)
    out: Path = parser.parse_args(argv).out
    pins = pins_of((ROOT / "constraints.txt").read_text("utf-8"))
    try:
        for name, packages in ARCHIVES.items():
            requirements = [f"{package}=={pins[package]}" for package in packages]
            requirements += [ONNXRUNTIME] if name == "runtime" else []
            with tempfile.TemporaryDirectory() as scratch:
                site = Path(scratch) / "site"
                for wheel in download(requirements, Path(scratch) / "wheels"):
                    unpack(wheel, site)
                if name == "runtime":
                    write_metadata(site)
                print(listing(pack(site, out / f"{name}.tar.xz")), flush=True)
    except PackingError as error:
        sys.exit(f"benchmarks.gpu.wheels: {error}")


def pins_of(constraints: str) -> dict[str, str]:
    """Return versions by package from a constraints file."""
    lines = (line.strip() for line in constraints.splitlines())
    return dict(line.split("==", 1) for line in lines if "==" in line and not line.startswith("#"))


def download(requirements: Sequence[str], folder: Path) -> list[Path]:
    """Download wheels for the other machine's Python, without what they depend on."""
    platforms = [option for platform in PLATFORMS for option in ("--platform", platform)]
    target = ("--implementation", "cp", "--python-version", PYTHON, *platforms)
    options = ("--quiet", "--no-deps", "--only-binary=:all:", "--dest", str(folder), *target)
    run([sys.executable, "-m", "pip", "download", *options, *requirements])
    return sorted(folder.glob("*.whl"))


def unpack(wheel: Path, site: Path) -> None:
    """Unpack a wheel into a folder, without the provider that nobody uses, and take that out of its RECORD."""
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(site, [name for name in archive.namelist() if name != UNUSED])
        for record in (name for name in archive.namelist() if name.endswith(".dist-info/RECORD")):
            lines = archive.read(record).decode("utf-8").splitlines(keepends=True)
            kept = "".join(line for line in lines if not line.startswith(UNUSED))
            (site / record).write_text(kept, "utf-8")


def write_metadata(site: Path) -> None:
    """Write the metadata of this project, whose version checkpoints and bundles name; its code is the tree."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    folder = site / f"{project['name']}-{project['version']}.dist-info"
    folder.mkdir()
    content = f"Metadata-Version: 2.1\nName: {project['name']}\nVersion: {project['version']}\n"
    (folder / "METADATA").write_text(content, "utf-8")


if __name__ == "__main__":
    main()
