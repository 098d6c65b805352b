"""Known vulnerabilities of installed packages: audit.py FOLDER…, each the site-packages of an environment.

It exits with 1 if there are some, and with 0 and a line that begins with "skipped" if the database of advisories cannot
be reached or knows nothing, as behind a mirror of PyPI without them: then nothing has been audited.
"""

import json
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

UNREACHABLE = ("Max retries exceeded", "Could not connect", "not redirecting", "timed out", "ServiceError")
"""Parts of the last line of pip-audit, by which it says that the database does not answer."""


def main(arguments: list[str]) -> int:
    """Audit environments; arguments other than folders are pip-audit's own. Return the exit status."""
    folders = [one for one in arguments if Path(one).is_dir()]
    options = [one for one in arguments if one not in folders]
    with tempfile.TemporaryDirectory() as folder:
        report = Path(folder) / "report.json"
        command = [sys.executable, "-m", "pip_audit", "--progress-spinner", "off", "--timeout", "10", *options]
        for one in folders:
            command += ["--path", one]
        run = subprocess.run([*command, "--format", "json", "--output", report], capture_output=True, text=True)
        if not report.exists():
            return _not_run(run.stderr.strip())
        return _judge(json.loads(report.read_text("utf-8"))["dependencies"])


def _not_run(words: str) -> int:
    """Report that pip-audit came to no result."""
    last = words.splitlines()[-1] if words else "pip-audit said nothing"
    if any(part in last for part in UNREACHABLE):
        print(f"skipped: the database of advisories cannot be reached ({last})")
        return 0
    print(words, file=sys.stderr)
    return 1


def _judge(packages: list[dict[str, Any]]) -> int:
    """Report what was found; packages that the database does not know have no list of vulnerabilities."""
    audited = [one for one in packages if "vulns" in one]
    if not audited:
        print(f"skipped: the database of advisories knows none of the {len(packages)} packages; nothing was audited")
        return 0
    found = [(one, entry) for one in audited for entry in one["vulns"]]
    for one, entry in found:
        fixed = ", ".join(entry["fix_versions"]) or "no version yet"
        print(f"{one['name']} {one['version']}: {entry['id']}, fixed in {fixed}")
    unknown = [one["name"] for one in packages if "vulns" not in one]
    print(f"{len(audited)} packages audited, {len(found)} known vulnerabilities")
    if unknown:
        print(f"not audited, since the database does not know them: {', '.join(unknown)}")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
