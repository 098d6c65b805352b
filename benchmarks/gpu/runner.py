"""Run parts, each in a process of its own with a limit of its own: one that hangs or dies costs no other."""

import contextlib
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from benchmarks.gpu.outcome import WHOLE
from benchmarks.gpu.parts import Part
from benchmarks.gpu.results import CUT, DONE, FAILED, Record
from benchmarks.gpu.setting import Setting
from benchmarks.peers import last_line

LOGS = "logs"
"""Folder in that of the setting with what each part printed."""
POLL = 0.1
"""Seconds between two looks at the processes."""
TAIL = 15
"""Lines of a failed part's output that are shown."""
LEAST = 10.0
"""Seconds below which no further part is begun."""
Command = Callable[[Part, Setting, Path], Sequence[str]]


def command_of(part: Part, setting: Setting, out: Path) -> list[str]:
    """Return the command of a part's process."""
    return [sys.executable, "-m", "benchmarks.gpu.part", part.name, json.dumps(setting.as_dict()), str(out)]


@dataclass(kw_only=True)
class Running:
    """A part's process."""

    part: Part
    process: subprocess.Popen[bytes]
    log: IO[bytes]
    out: Path
    begun: float
    limit: float
    """Seconds that it may take: the part's limit, or those that are left."""

    @property
    def seconds(self) -> float:
        """Seconds since it began."""
        return time.monotonic() - self.begun

    def record(self) -> Record | None:
        """Return the part's record if its process has ended or is over its limit; None while it runs.

        A process that dies or hangs after it has written its outcome, as when it unloads CUDA, has done its part.
        """
        code = self.process.poll()
        if code is None and self.seconds < self.limit:
            return None
        seconds = self.seconds
        self.kill()
        content = json.loads(self.out.read_text("utf-8")) if self.out.is_file() else {}
        if content.pop(WHOLE, False):
            return {"state": DONE, "seconds": seconds, **content}
        self.log.seek(0)
        lines = self.log.read().decode("utf-8", "replace")
        print("\n".join(lines.splitlines()[-TAIL:]), file=sys.stderr)
        why = f"it took more than its {self.limit:.0f} s" if code is None else f"it ended with {code}"
        error = f"{why}: {last_line(lines)}"
        return {"state": CUT if content else FAILED, "seconds": seconds, "error": error, **content}

    def kill(self) -> None:
        """End the process and all that it started."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()


def groups_of(parts: Iterable[Part]) -> list[list[Part]]:
    """Return parts in order, in groups that may run side by side: those that time nothing, next to one another."""
    groups: list[list[Part]] = []
    for part in parts:
        if groups and not part.timed and not groups[-1][-1].timed:
            groups[-1].append(part)
        else:
            groups.append([part])
    return groups


def run_parts(
    parts: Iterable[Part], setting: Setting, *, seconds: float, command: Command = command_of
) -> Iterator[tuple[Part, Record]]:
    """Run parts and yield the record of each as it ends; begin none when `seconds` are over."""
    end = time.monotonic() + seconds
    with tempfile.TemporaryDirectory() as scratch:
        for group in groups_of(parts):
            left = end - time.monotonic()
            if left < LEAST:
                return
            yield from _run_group(group, setting, left, Path(scratch), command)


def _run_group(
    group: Sequence[Part], setting: Setting, left: float, scratch: Path, command: Command
) -> Iterator[tuple[Part, Record]]:
    running = [_start(part, setting, left, scratch / f"{part.name}.json", command) for part in group]
    try:
        while running:
            for one in list(running):
                record = one.record()
                if record is not None:
                    running.remove(one)
                    one.log.close()
                    yield one.part, record
            time.sleep(POLL)
    finally:
        for one in running:
            one.kill()


def _start(part: Part, setting: Setting, left: float, out: Path, command: Command) -> Running:
    limit = min(part.limit * setting.patience, left)
    print(f"{part.name}: at most {limit:.0f} s", file=sys.stderr, flush=True)
    logs = setting.folder / LOGS
    logs.mkdir(exist_ok=True)
    log = (logs / f"{part.name}.log").open("wb+")
    process = subprocess.Popen(
        command(part, setting, out),
        stdout=log,
        stderr=subprocess.STDOUT,
        stdin=subprocess.DEVNULL,
        start_new_session=True,
    )
    return Running(part=part, process=process, log=log, out=out, begun=time.monotonic(), limit=limit)
