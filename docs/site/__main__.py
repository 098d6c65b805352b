"""Build the site: python -m docs.site [--out FOLDER]."""

import argparse
import sys
from pathlib import Path

from docs.site.build import BuildError, build_site
from docs.site.pages import ROOT


def main(argv: list[str] | None = None) -> None:
    """Build the site, or end with what is wrong in it."""
    parser = argparse.ArgumentParser(prog="python -m docs.site", description="Build the documentation site.")
    parser.add_argument("--out", type=Path, default=ROOT / "site", help="folder of the site (default: site)")
    out: Path = parser.parse_args(argv).out
    try:
        build_site(out)
    except BuildError as error:
        sys.exit(f"docs.site: {error}")
    sys.stdout.write(f"wrote {out}: open {out / 'index.html'}\n")


if __name__ == "__main__":
    main()
