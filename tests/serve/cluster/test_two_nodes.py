import json
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("ray", reason="the extra ray is not installed")
pytestmark = pytest.mark.slow

BACK_SECONDS = 30
BUSY_FACTOR = 3
"""The test may run beside others."""


@pytest.mark.soak
def test_a_node_that_is_killed_loses_no_request_that_is_sent_once_more(classifiers: Path) -> None:
    command = [sys.executable, "-m", "tests.serve.cluster.two_nodes", str(classifiers)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=400)
    assert done.returncode == 0, done.stderr[-3000:]
    found = json.loads(done.stdout[done.stdout.rindex('{"outcomes"') :].splitlines()[0])
    assert {outcome.split(" ")[0] for outcome in found["outcomes"]} == {"200"}, found
    assert sum(found["outcomes"].values()) > found["before"] > 0
    assert found["running"] == 2
    assert found["seconds"] < BACK_SECONDS * BUSY_FACTOR
