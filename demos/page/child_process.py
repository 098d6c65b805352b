"""Commands of this project as processes of the page, which end with it."""

import asyncio
import atexit
import os
import signal
import subprocess
import sys
from collections.abc import AsyncGenerator, Sequence
from contextlib import suppress
from pathlib import Path

from demos.page.server_client import PageError

EVERY = 0.5
"""Seconds between two looks at a process."""
NICENESS = 10
"""The processes give way to the server."""


async def run_command(module: str, arguments: Sequence[str], *, out: Path, log: Path) -> AsyncGenerator[None, None]:
    """Run a command to its end, and yield at every look at it; closing the iterator kills it.

    Args:
        module: Python module of the command.
        arguments: Its arguments.
        out: File of its standard output.
        log: File of its standard error.

    Raises:
        PageError: It ended with an error; the message is the last line of `log`.
    """
    with out.open("w") as output, log.open("w") as errors:
        process = subprocess.Popen(
            [sys.executable, "-m", module, *arguments], stdout=output, stderr=errors, start_new_session=True
        )
    atexit.register(_kill, process)
    try:
        os.setpriority(os.PRIO_PROCESS, process.pid, NICENESS)
        while process.poll() is None:
            yield
            await asyncio.sleep(EVERY)
    finally:
        _kill(process)
        atexit.unregister(_kill)
    if process.returncode:
        raise PageError(_reason(module, process.returncode, log))


def _kill(process: "subprocess.Popen[bytes]") -> None:
    """End a process and those that it has started."""
    if process.poll() is None:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def _reason(module: str, status: int, log: Path) -> str:
    command = module.removesuffix(".cli").replace("_", "-")
    lines = log.read_text("utf-8", errors="replace").strip().splitlines()
    if status < 0 or not lines:
        return f"{command} ended with status {status}. Is there enough memory?"
    return lines[-1].removeprefix(f"{command}: ")
