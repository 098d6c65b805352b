"""The image for the CPU, built by the steps of its Dockerfile and run with a read-only root and another user."""

import hashlib
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from importlib.metadata import distributions
from pathlib import Path
from typing import Any

import httpx
import pytest

from demos.server import free_port
from tests.deploy.dockerfile import ROOT, read_dockerfile
from tests.deploy.image import Image, build, why_not
from tests.serve.conftest import Reference, reference, write_bundle

__all__ = ["reference"]

pytestmark = pytest.mark.slow
KEY = "a key of the test"
SECRETS, KEYS = "/run/secrets", "adamix-api-keys"
START_SECONDS = 60.0


@pytest.fixture(scope="module")
def image(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Image]:
    reason = why_not()
    if reason is not None:
        pytest.skip(f"{reason}: the Dockerfile has not been built")
    work = tmp_path_factory.mktemp("image")
    yield build(read_dockerfile("deploy/Dockerfile"), work)
    shutil.rmtree(work)  # several hundred megabytes


@pytest.fixture(scope="module")
def packages(image: Image) -> Path:
    """The folder of the packages that are installed in the image."""
    (folder,) = image.layer.glob("opt/adamix/lib/python*/site-packages")
    return folder


class Container:
    """Commands in containers of an image, and the server that is in one of them."""

    def __init__(self, image: Image, volumes: dict[str, Path], work: Path) -> None:
        self.image, self.volumes, self.work = image, volumes, work
        self.variables = {"ADAMIX_PORT": str(free_port())}
        self.count = 0
        self.server: subprocess.Popen[str] | None = None
        self.log = work / "server.log"

    def arguments(self, command: list[str], **variables: str) -> list[str]:
        self.count += 1
        return self.image.command(
            command,
            environment={**self.variables, **variables},
            volumes=self.volumes,
            work=self.work / str(self.count),
        )

    def run(self, *command: str, **variables: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(self.arguments(list(command), **variables), capture_output=True, text=True, timeout=60)

    def python(self, code: str) -> str:
        result = self.run("python", "-c", code)
        assert result.returncode == 0, result.stderr
        return result.stdout.strip()

    def is_healthy(self) -> bool:
        """Run the image's own health check."""
        (check,) = self.image.stage.all("HEALTHCHECK")
        assert "/health/ready" in check
        return self.run(*self.image.stage.json("HEALTHCHECK")).returncode == 0

    def start(self) -> str:
        """Start the image's entry point without further flags; return the address once it is ready."""
        with self.log.open("w") as log:
            command = self.arguments(self.image.stage.json("ENTRYPOINT"))
            self.server = subprocess.Popen(command, stderr=log, text=True)
        address, end = f"http://127.0.0.1:{self.variables['ADAMIX_PORT']}", time.monotonic() + START_SECONDS
        while time.monotonic() < end and self.server.poll() is None:
            try:
                if httpx.get(f"{address}/health/ready").status_code == 200:
                    return address
            except httpx.TransportError:
                time.sleep(0.1)
        raise AssertionError(self.log.read_text())

    def stop(self) -> int:
        assert self.server is not None
        self.server.send_signal(signal.SIGTERM)
        return self.server.wait(timeout=60)


@pytest.fixture
def container(image: Image, reference: Reference, tmp_path: Path) -> Iterator[Container]:
    tmp_path.chmod(0o755)
    secrets = tmp_path / "secrets"
    secrets.mkdir()
    (secrets / KEYS).write_text(f'[tester]\nsha256 = "{hashlib.sha256(KEY.encode()).hexdigest()}"\n')
    bundle = write_bundle(tmp_path / "bundle", reference, ["tone", "intent"])
    for path in bundle.rglob("*"):  # as adamix-export leaves it, for every user to read
        path.chmod(0o755 if path.is_dir() else 0o644)
    one = Container(image, {"/bundle": bundle, SECRETS: secrets}, tmp_path)
    yield one
    if one.server is not None and one.server.poll() is None:
        one.server.kill()
        one.server.wait()


def test_it_has_the_server_and_neither_torch_nor_transformers_nor_pip(container: Container) -> None:
    modules = ("torch", "transformers", "peft", "onnx", "pip", "serve", "onnxruntime", "grpc")
    found = container.python(
        f"import importlib.util as u; print(*(m for m in {modules} if u.find_spec(m)), u.find_spec('serve').origin)"
    )
    *there, origin = found.split()
    assert there == ["serve", "onnxruntime", "grpc"]
    assert origin.startswith("/opt/adamix/lib/")


def test_nothing_can_be_written_but_its_volumes(container: Container) -> None:
    code = """
import os
print(os.getuid(), os.getgid(), os.getgroups())
for folder in ("/opt/adamix", "/bundle", "/etc", "/", "/var/cache/adamix", "/tmp"):
    try:
        open(folder + "/x", "w").close()
        print(folder, "written")
    except OSError as error:
        print(folder, error.strerror)
"""
    user, *folders = container.python(code).splitlines()
    assert user == "10001 10001 []"
    written = [line.split()[0] for line in folders if line.endswith(" written")]
    assert written == ["/var/cache/adamix", "/tmp"]
    assert "/opt/adamix Read-only file system" in folders


def test_it_does_not_start_without_keys(container: Container) -> None:
    del container.volumes[SECRETS]
    run = container.run(*container.image.stage.json("ENTRYPOINT"))
    assert run.returncode == 1
    assert run.stderr.splitlines() == [f"adamix-serve: {SECRETS}/{KEYS}: No such file or directory"]


def test_it_serves_a_bundle_is_healthy_and_stops(container: Container, tmp_path: Path) -> None:
    cache = tmp_path / "cache"
    cache.mkdir()
    os.chown(cache, 10001, 10001)
    container.volumes["/var/cache/adamix"] = cache
    assert not container.is_healthy()
    address = container.start()
    assert container.is_healthy()
    body: dict[str, Any] = {"inputs": [["the bill is late"], ["very good"]], "adapter": ["intent", "tone"]}
    assert httpx.post(f"{address}/predict", json=body).status_code == 401
    response = httpx.post(f"{address}/predict", json=body, headers={"authorization": f"Bearer {KEY}"})
    assert response.status_code == 200
    assert [{one["label"] for one in row} for row in response.json()] == [
        {"billing", "delivery", "other"},
        {"negative", "positive"},
    ]
    assert list(cache.glob("graphs/*/graph.onnx")), container.log.read_text()
    assert "warning" not in container.log.read_text().lower()
    assert container.stop() == 0
    assert "every accepted request is answered" in container.log.read_text()
    assert not container.is_healthy()


def test_the_sbom_has_every_package_of_the_image_with_version_and_licence(packages: Path, tmp_path: Path) -> None:
    """`make sbom` describes an environment whose packages are the image's."""
    serving = tmp_path / "serving"
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", serving], check=True)
    (own,) = serving.glob("lib/python*/site-packages")
    own.rmdir()
    own.symlink_to(packages)
    (serving / ".installed").touch()
    made = [Path(sys.prefix) / ".installed", serving / ".installed"]
    command = ["make", *(f"--old-file={file}" for file in made), f"PYTHON={sys.executable}", f"VENV={sys.prefix}"]
    command += [f"SERVE_VENV={serving}", f"SBOM={tmp_path / 'sbom.json'}", "sbom"]
    run = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert run.returncode == 0, run.stderr
    sbom = json.loads((tmp_path / "sbom.json").read_text())
    assert sbom["bomFormat"] == "CycloneDX"
    assert sbom["metadata"]["component"]["name"] == "adamix"
    listed = {_normal(one["name"]): one for one in [*sbom["components"], sbom["metadata"]["component"]]}
    installed = {_normal(one.name): one.version for one in distributions(path=[str(packages)])}
    assert {"adamix", "onnxruntime", "fastapi", "numpy", "uvicorn"} <= installed.keys()
    assert {name: one["version"] for name, one in listed.items()} == installed
    assert [name for name, one in listed.items() if not one.get("licenses")] == []


def _normal(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()
