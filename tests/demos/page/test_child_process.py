"""Commands as processes of the page: their errors, and that they end with it."""

import asyncio
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from demos.page.child_process import NICENESS, run_command
from demos.page.server_client import PageError
from tests.fixtures.processes import children

PAGE = """
import asyncio, signal, sys
from pathlib import Path
from demos.page.child_process import NICENESS, run_command

async def follow():
    async for _ in run_command("http.server", ["0"], out=Path("out"), log=Path("log")):
        print("runs", flush=True)

signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
asyncio.run(follow())
"""
"""A page that follows a command without end, and takes SIGTERM as the page does."""


def run(folder: Path, module: str, *arguments: str) -> int:
    """Run a command to its end, and return how often it was looked at."""

    async def looks() -> int:
        return len([None async for _ in run_command(module, arguments, out=folder / "out", log=folder / "log")])

    return asyncio.run(looks())


def test_a_command_is_followed_until_it_ends(tmp_path: Path) -> None:
    assert run(tmp_path, "json.tool", "--help") > 0
    assert (tmp_path / "out").read_text().startswith("usage")


def test_the_last_line_of_a_command_that_fails_is_its_error(tmp_path: Path) -> None:
    with pytest.raises(PageError) as caught:
        run(tmp_path, "adamix_train.cli", "nothing.yaml")
    assert str(caught.value) == "cannot read recipe nothing.yaml: No such file or directory"


def test_a_process_ends_when_nobody_follows_it_any_more(tmp_path: Path) -> None:
    async def begun() -> int:
        """The number of the command's process, which has the page's command line until it runs its own."""
        for _ in range(1000):
            if found := [number for number, one in children(os.getpid()).items() if "http.server" in one]:
                return found[0]
            await asyncio.sleep(0.01)
        raise AssertionError("it has not begun")

    async def leave() -> None:
        looks = run_command("http.server", ["0"], out=tmp_path / "out", log=tmp_path / "log")
        await anext(looks)
        process = await begun()
        assert os.getpriority(os.PRIO_PROCESS, process) == NICENESS
        await looks.aclose()

    asyncio.run(leave())
    assert not [one for one in children(os.getpid()).values() if "http.server" in one]


def test_a_process_ends_with_the_page(tmp_path: Path) -> None:
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    with subprocess.Popen([sys.executable, "-c", PAGE], cwd=tmp_path, env=environment, stdout=subprocess.PIPE) as page:
        assert page.stdout is not None
        assert page.stdout.readline() == b"runs\n"
        deadline = time.monotonic() + 10
        while not (started := children(page.pid)) and time.monotonic() < deadline:
            time.sleep(0.05)
        assert started
        page.terminate()
    deadline = time.monotonic() + 10
    while any(Path("/proc", str(number)).exists() for number in started) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not [number for number in started if Path("/proc", str(number)).exists()]
