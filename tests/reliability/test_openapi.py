"""schemathesis tries 5,000 requests that the OpenAPI document describes: no 5xx, no hang, no growth."""

import re
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import httpx
import pytest

from tests.adamix_export.converters.peer import peer
from tests.reliability.both_engines import counted, serve_both
from tests.serve.conftest import Reference

CASES = 5000
ROUNDS = 2
"""Memory is compared between the ends of the rounds, each of which tries half of the cases."""
CHECKS = "not_a_server_error,status_code_conformance"
MOST_SECONDS = 10
MOST_GROWTH = 0.05


@pytest.mark.soak
@pytest.mark.timeout(3600)
def test_schemathesis_over_the_whole_document(
    tmp_path: Path, reference: Reference, figure: Callable[[str], None]
) -> None:
    client = peer("schemathesis")
    memory, cases, started = [], 0, time.monotonic()
    with serve_both(tmp_path, reference, context=64) as server:
        document = httpx.get(f"{server.address}/openapi.json").json()
        operations = sum(len(methods) for methods in document["paths"].values())
        for seed in range(ROUNDS):
            command = [client.python, "-m", "schemathesis.cli", "run", f"{server.address}/openapi.json"]
            command += ["--checks", CHECKS, "--phases", "examples,coverage,fuzzing", "--seed", str(seed)]
            command += ["--max-examples", str(-(-CASES // ROUNDS // operations)), "--no-shrink"]
            command += ["--request-timeout", str(MOST_SECONDS)]
            command += ["--suppress-health-check", "all", "--continue-on-failure"]
            result = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path)
            assert result.returncode == 0, result.stdout[-6000:]
            found = re.search(r"(\d+) generated", result.stdout)
            assert found is not None, result.stdout[-6000:]
            cases += int(found[1])
            memory.append(counted(server)["memory"])
    growth = memory[-1] / memory[0] - 1
    figure(
        f"{cases} cases over {operations} operations in {time.monotonic() - started:.0f} s: no 5xx, no status that the "
        f"document lacks; memory {memory[0] / 1e3:.1f} MB after half of them, {memory[-1] / 1e3:.1f} at the end "
        f"({growth:+.1%})"
    )
    assert cases >= CASES
    assert growth < MOST_GROWTH
