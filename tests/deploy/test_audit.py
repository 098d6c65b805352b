"""deploy/audit.py tells vulnerable, clean and not audited apart."""

import json
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest

from tests.deploy.dockerfile import ROOT

ADVISORY = {
    "id": "GHSA-0000-0000-0000",
    "summary": "An example",
    "affected": [
        {
            "package": {"ecosystem": "PyPI", "name": "broken"},
            "ranges": [{"type": "ECOSYSTEM", "events": [{"introduced": "0"}, {"fixed": "1.1"}]}],
        }
    ],
}


class Database(BaseHTTPRequestHandler):
    """A database of advisories with one entry, which speaks OSV's protocol."""

    def do_POST(self) -> None:
        query = json.loads(self.rfile.read(int(self.headers["content-length"])))
        body = json.dumps({"vulns": [ADVISORY]} if query["package"]["name"] == "broken" else {}).encode()
        self.send_response(200)
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *values: object) -> None:
        pass


@pytest.fixture
def database() -> Iterator[str]:
    server = HTTPServer(("127.0.0.1", 0), Database)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}/v1/query"
    server.shutdown()
    server.server_close()


@pytest.fixture
def packages(tmp_path: Path) -> Path:
    for name in ("broken", "sound"):
        folder = tmp_path / f"{name}-1.0.dist-info"
        folder.mkdir()
        (folder / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n")
    return tmp_path


def audit(*arguments: str | Path, **environment: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "deploy/audit.py", *map(str, arguments)]
    environment = {"PATH": "/usr/bin:/bin", "HOME": "/nonexistent", **environment}
    return subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True)


def test_a_vulnerable_package_is_named_with_the_version_that_is_fixed(packages: Path, database: str) -> None:
    run = audit(packages, "--vulnerability-service=osv", f"--osv-url={database}")
    assert run.returncode == 1, run.stderr
    assert run.stdout.splitlines() == [
        "broken 1.0: GHSA-0000-0000-0000, fixed in 1.1",
        "2 packages audited, 1 known vulnerabilities",
    ]


def test_packages_without_advisories_pass(packages: Path, database: str) -> None:
    (packages / "broken-1.0.dist-info" / "METADATA").unlink()
    run = audit(packages, "--vulnerability-service=osv", f"--osv-url={database}")
    assert run.returncode == 0, run.stderr
    assert "1 packages audited, 0 known vulnerabilities" in run.stdout


def test_offline_it_says_that_it_was_skipped_and_does_not_fail(packages: Path) -> None:
    run = audit(packages, HTTPS_PROXY="http://127.0.0.1:9")
    assert run.returncode == 0, run.stderr
    assert run.stdout.startswith("skipped: the database of advisories cannot be reached")


def test_a_wrong_option_is_not_mistaken_for_an_unreachable_database(packages: Path) -> None:
    run = audit(packages, "--no-such-option")
    assert run.returncode == 1
    assert "--no-such-option" in run.stderr
    assert "skipped" not in run.stdout
