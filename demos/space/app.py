"""The page over bundles of its own: serves every folder in `bundles`, and shows the page on all addresses."""

import os
import signal
import sys
from pathlib import Path

from demos.page.page import launch, make_page
from demos.page.server_client import ServerClient
from demos.server import running_server

BUNDLES = Path(__file__).parent / "bundles"
PORT = 7860
"""Port that a Space shows; the variable PORT names another."""


def main() -> None:
    """Serve and show until a signal ends both."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    bundles = sorted(file.parent for file in BUNDLES.glob("*/bundle.json"))
    if not bundles:
        sys.exit(f"there is no bundle in {BUNDLES}: make the folder with python -m demos.space.build")
    with running_server(*bundles) as address:
        launch(make_page(ServerClient(address)), port=int(os.environ.get("PORT", PORT)), host="0.0.0.0")


if __name__ == "__main__":
    main()
