"""Make the folder of a Space: the app, its requirements, the wheel of this project, and bundles."""

import argparse
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path

from serve.bundle.reader import open_bundle
from serve.errors import BundleError

HERE = Path(__file__).parent
FILES = ("app.py", "Dockerfile", "README.md")
REQUIREMENTS = "requirements.txt"
LARGE = "*.data filter=lfs diff=lfs merge=lfs -text\n*.onnx filter=lfs diff=lfs merge=lfs -text\n"
"""Files that the Hub keeps apart."""


class SpaceError(Exception):
    """The folder cannot be made."""


def build(bundles: Sequence[Path], wheel: Path, out: Path) -> None:
    """Write the folder of a Space.

    Args:
        bundles: Folders of the bundles that it serves; their hashes are checked.
        wheel: Wheel of this project, as `pip wheel --no-deps .` makes it.
        out: New folder.

    Raises:
        SpaceError: There is no such wheel or bundle, or `out` is there already.
    """
    if wheel.suffix != ".whl" or not wheel.is_file():
        raise SpaceError(f"{wheel} is no wheel: make one with pip wheel --no-deps --wheel-dir dist .")
    if out.exists():
        raise SpaceError(f"{out} is there already: give another folder")
    try:
        for bundle in bundles:
            open_bundle(bundle)
    except BundleError as error:
        raise SpaceError(str(error)) from error
    out.mkdir(parents=True)
    for name in FILES:
        shutil.copy(HERE / name, out / name)
    requirements = (HERE / REQUIREMENTS).read_text("utf-8").replace("WHEEL", wheel.name)
    (out / REQUIREMENTS).write_text(requirements, "utf-8")
    (out / ".gitattributes").write_text(LARGE, "utf-8")
    shutil.copy(wheel, out / wheel.name)
    for bundle in bundles:
        shutil.copytree(bundle, out / "bundles" / bundle.resolve().name)


def main(argv: list[str] | None = None) -> None:
    """Make the folder, and say how it becomes a Space."""
    parser = argparse.ArgumentParser(allow_abbrev=False, description="Make the folder of a Space of the Hub.")
    parser.add_argument("bundles", nargs="+", type=Path, metavar="BUNDLE", help="bundle that the Space serves")
    parser.add_argument("out", type=Path, help="new folder")
    parser.add_argument("--wheel", type=Path, required=True, help="wheel of this project")
    args = parser.parse_args(argv)
    try:
        build(args.bundles, args.wheel, args.out)
    except (SpaceError, OSError) as error:
        sys.exit(f"demos.space.build: {error}")
    print(f"wrote {args.out}; push it to a Space of the kind Docker, with Git LFS")


if __name__ == "__main__":
    main()
