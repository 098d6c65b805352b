"""Make the peers' environments: `python -m benchmarks.peers [NAME …]`; one that is there already is kept."""

import argparse
import subprocess
import sys

from adamix_cli.progress_bar import progress_bar
from benchmarks.peers import HOW, PEERS, Peer, last_line
from benchmarks.support.errors import PeerError


def main(argv: list[str] | None = None) -> None:
    """Install the named peers, or all, and say what became of each."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.peers", description=f"What `{HOW}` runs.")
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"default: all ({', '.join(PEERS)})")
    names = parser.parse_args(argv).names or list(PEERS)
    if unknown := sorted(set(names) - set(PEERS)):
        sys.exit(f"benchmarks.peers: unknown peer {', '.join(unknown)}; known are {', '.join(PEERS)}")
    outcomes = {name: _outcome(PEERS[name]) for name in names}
    for name, obstacle in outcomes.items():
        print(f"{name}: {obstacle or 'installed'}")
    if any(outcomes.values()):
        sys.exit(1)


def install(peer: Peer) -> None:
    """Make the environment of a peer from its requirements, anew unless it is whole and up to date."""
    try:
        peer.require()
    except PeerError:
        with progress_bar(total=2, bar_format="{desc} {bar}| {elapsed}") as bar:
            bar.set_description(f"{peer.name}: making its environment")
            _step(sys.executable, "-m", "venv", "--clear", str(peer.folder))
            bar.update()
            bar.set_description(f"{peer.name}: installing (minutes)")
            pip = (str(peer.python), "-m", "pip", "--disable-pip-version-check", "--no-input")
            _step(*pip, "install", "--quiet", "--requirement", str(peer.requirements))
            if peer.removed:
                _step(*pip, "uninstall", "--quiet", "--yes", *peer.removed)
            bar.update()
        peer.marker.write_text(peer.fingerprint, "utf-8")


def _outcome(peer: Peer) -> str | None:
    """Install a peer and return why it could not be, or None."""
    try:
        install(peer)
    except PeerError as error:
        return f"NOT installed: {error}"
    return None


def _step(*command: str) -> None:
    result = subprocess.run(command, capture_output=True, text=True)
    if result.returncode:
        raise PeerError(last_line(result.stderr))


if __name__ == "__main__":
    main()
