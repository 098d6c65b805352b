"""Code blocks of the documentation: found in a page, and run as a reader would run them."""

import contextlib
import io
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from importlib import import_module
from pathlib import Path
from typing import Any
from urllib.error import URLError
from urllib.request import urlopen

import pytest

from demos.server import free_port

ROOT = Path(__file__).parents[2]
DOCS = [str(file.relative_to(ROOT)) for file in (ROOT / "docs").rglob("*.md")]
PAGES = sorted(["README.md", "CONTRIBUTING.md", *DOCS])
RUN = ("bash", "python")
"""Languages of blocks that a reader runs."""
EXCERPT = re.compile(r"<!-- excerpt: *(.*?) *-->")
FILE_NAME = re.compile(r"# ([\w./-]+\.(?:ya?ml|toml|csv|jsonl))\b")
"""First line of a block that is the file of this name."""
PORT = "8080"
START_SECONDS = 60.0


@dataclass(frozen=True, kw_only=True)
class Block:
    """A fenced block of a page."""

    page: str
    line: int
    """Line of the opening fence, counted from 1."""
    language: str
    code: str
    excerpt: str | None
    """Reason why the block is not run; None if it is. Empty if the comment gives none."""
    output: str | None = None
    """Text block that follows it: what it prints."""

    def __str__(self) -> str:
        return f"{self.page}:{self.line}"


def read_blocks(page: str, text: str) -> list[Block]:
    """Return the fenced blocks of a page; a block of the language `text` is the output of the one before it."""
    found: list[Block] = []
    lines = text.splitlines()
    number = 0
    while number < len(lines):
        fence = re.fullmatch(r"( *)```(\w*)", lines[number])
        if not fence:
            number += 1
            continue
        end = next(index for index in range(number + 1, len(lines)) if lines[index].strip() == "```")
        code = "\n".join(line.removeprefix(fence[1]) for line in lines[number + 1 : end]) + "\n"
        mark = EXCERPT.fullmatch(lines[number - 1].strip()) if number else None
        if fence[2] == "text" and found and found[-1].output is None and found[-1].language in RUN:
            found[-1] = Block(**{**vars(found[-1]), "output": code})
        else:
            found.append(
                Block(page=page, line=number + 1, language=fence[2], code=code, excerpt=mark[1] if mark else None)
            )
        number = end + 1
    return found


def page_blocks(page: str) -> list[Block]:
    """Return the fenced blocks of a page of this repository."""
    return read_blocks(page, (ROOT / page).read_text("utf-8"))


@dataclass
class Reader:
    """A reader who runs the blocks of one page in a folder, from the first to the last."""

    folder: Path
    packages: Path = ROOT
    """Repository whose packages the commands run."""
    port: int = field(default_factory=free_port)
    names: dict[str, Any] = field(default_factory=lambda: {"__name__": "__main__"})
    """Variables of the page's Python blocks."""
    server: "subprocess.Popen[bytes] | None" = None

    def read(self, block: Block) -> str | None:
        """Run a block, or write the file that it is; return what it printed, None if it is neither."""
        if block.excerpt is not None:
            return None
        if block.language == "python":
            return self._python(block)
        if block.language == "bash" and block.code.startswith("adamix-serve ") and "--check" not in block.code:
            return self._serve(block)
        if block.language == "bash":
            lines = plain_commands(block.code)
            return self._bash(block) if lines is None else "".join(self._command(*line) for line in lines)
        if name := FILE_NAME.match(block.code):
            (self.folder / name[1]).write_text(block.code, "utf-8")
        return None

    def read_page(self, page: str) -> None:
        """Run the blocks of a page in order, and compare what they print with what the page says."""
        for block in page_blocks(page):
            check_output(block, self.read(block))

    def _python(self, block: Block) -> str:
        printed = io.StringIO()
        with contextlib.chdir(self.folder), contextlib.redirect_stdout(printed):
            exec(compile("\n" * block.line + self._own(block), str(block), "exec"), self.names)
        return printed.getvalue()

    def _bash(self, block: Block) -> str:
        command = ["bash", "-euo", "pipefail", "-c", self._own(block)]
        result = subprocess.run(command, cwd=self.folder, env=self.environment(), capture_output=True, text=True)
        assert result.returncode == 0, f"{block} ended with {result.returncode}:\n{result.stderr[-3000:]}"
        return result.stdout

    def _command(self, name: str, *arguments: str) -> str:
        """Run one of the project's commands in this process, which has imported what it needs."""
        printed = io.StringIO()
        handlers = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
        try:
            with contextlib.chdir(self.folder), contextlib.redirect_stdout(printed):
                import_module(COMMANDS[name]).main([*arguments])
        finally:
            for number, handler in handlers.items():
                signal.signal(number, handler)
        return printed.getvalue()

    def _serve(self, block: Block) -> str:
        """Start a server, which runs until the page ends or the next one starts."""
        self.stop()
        log = self.folder / "server.log"
        command = ["bash", "-c", "exec " + self._own(block)]
        with log.open("wb") as output:
            self.server = subprocess.Popen(command, cwd=self.folder, env=self.environment(), stderr=output)
        deadline = time.monotonic() + START_SECONDS
        while time.monotonic() < deadline and self.server.poll() is None:
            with contextlib.suppress(URLError, ConnectionError), urlopen(f"http://127.0.0.1:{self.port}/health"):
                return ""
            time.sleep(0.1)
        raise AssertionError(f"{block}: the server did not start:\n{log.read_text()[-3000:]}")

    def stop(self) -> None:
        """End the server, if there is one."""
        if self.server is not None:
            self.server.terminate()
            self.server.wait(timeout=60)
            self.server = None

    def environment(self) -> dict[str, str]:
        """Return the environment of a shell that has the project's commands, and a curl to which an error is one."""
        (self.folder / ".curlrc").write_text("fail\n")
        path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
        packages = f"{self.packages}{os.pathsep}{os.environ.get('PYTHONPATH', '')}"
        return {**os.environ, "PATH": path, "PYTHONPATH": packages, "CURL_HOME": str(self.folder)}

    def _own(self, block: Block) -> str:
        """Return a block's code with a free port in place of the one that the documentation names."""
        return block.code.replace(PORT, str(self.port))


def skip_without_curl() -> None:
    """Skip a test whose blocks need curl where there is none."""
    if shutil.which("curl") is None:
        pytest.skip("curl is not installed: the blocks of the documentation that use it have not run")


@contextlib.contextmanager
def reader(folder: Path, packages: Path = ROOT) -> Iterator[Reader]:
    """Yield a reader in a folder, whose server ends with the context."""
    one = Reader(folder, packages)
    try:
        yield one
    finally:
        one.stop()


def plain_commands(code: str) -> list[list[str]] | None:
    """Return the commands of a block and their arguments if all are the project's own, and nothing is for a shell."""
    lines = [shlex.split(line, comments=True) for line in code.replace("\\\n", " ").splitlines()]
    if any(line[0] not in COMMANDS for line in lines) or any(mark in code for mark in "$|;&<>"):
        return None
    return lines


COMMANDS = {
    "adamix-train": "adamix_train.cli",
    "adamix-export": "adamix_export.cli",
    "adamix-predict": "adamix_predict.cli",
}
"""Commands that run in this process, and their modules."""


def check_output(block: Block, printed: str | None) -> None:
    """Compare what a block has printed with what its page says, where either is."""
    if block.output is not None and printed is not None:
        assert stable(printed) == stable(block.output), f"{block} prints something else:\n{printed}"


def stable(output: str) -> list[str]:
    """Return what of an output does not change from run to run: its lines, without numbers and layout."""
    lines = [" ".join(re.sub(r"-?\d+(\.\d+)?(e[-+]?\d+)?%?", "#", line).split()) for line in output.splitlines()]
    return [line for line in lines if line]
