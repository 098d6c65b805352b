"""Pack a folder for a journey of small files: `python -m benchmarks.gpu.packing FOLDER ARCHIVE`."""

import argparse
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from benchmarks.peers import last_line

PART = "56M"
COMPRESS = "xz --threads=1 --lzma2=preset=6,dict=192MiB"
"""A dictionary that spans files: the bundles of one base repeat its weights."""


class PackingError(Exception):
    """A program that downloads or packs has failed."""


def main(argv: list[str] | None = None) -> None:
    """Pack a folder and list the parts."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.gpu.packing", description=str(__doc__))
    parser.add_argument("folder", type=Path)
    parser.add_argument("archive", type=Path, help="its parts are called ARCHIVE.part-aa and so on")
    args = parser.parse_args(argv)
    try:
        print(listing(pack(args.folder, args.archive)))
    except PackingError as error:
        sys.exit(f"benchmarks.gpu.packing: {error}")


def pack(folder: Path, archive: Path, *, part: str = PART) -> list[Path]:
    """Write the content of a folder as an archive in parts, `ARCHIVE.part-aa` and so on, and `ARCHIVE.sha256`.

    The archive itself is removed again; `cat ARCHIVE.part-* > ARCHIVE` gives it back.

    Raises:
        PackingError: The folder is empty or missing, or a program failed.
    """
    archive = archive.absolute()
    archive.parent.mkdir(parents=True, exist_ok=True)
    for old in archive.parent.glob(f"{archive.name}.part-*"):
        old.unlink()
    names = sorted(file.name for file in folder.glob("*"))
    if not names:
        raise PackingError(f"{folder} is empty or missing: there is nothing to pack")
    run(["tar", "--create", "--file", str(archive), "--use-compress-program", COMPRESS, "-C", str(folder), *names])
    digest = run(["sha256sum", archive.name], archive.parent)
    archive.with_name(f"{archive.name}.sha256").write_text(digest, "utf-8")
    run(["split", "--bytes", part, archive.name, f"{archive.name}.part-"], archive.parent)
    archive.unlink()
    return sorted(archive.parent.glob(f"{archive.name}.part-*"))


def listing(parts: Sequence[Path]) -> str:
    """Return one line for each part, with its size."""
    return "\n".join(f"{part} {part.stat().st_size / 2**20:.1f} MiB" for part in parts)


def run(command: Sequence[str], folder: Path | None = None) -> str:
    """Return the output of a program; raise a PackingError with its last line if it fails."""
    result = subprocess.run(command, cwd=folder, env={**os.environ, "LC_ALL": "C"}, capture_output=True, text=True)
    if result.returncode:
        raise PackingError(f"{' '.join(command[:4])} … failed: {last_line(result.stderr)}")
    return result.stdout


if __name__ == "__main__":
    main()
