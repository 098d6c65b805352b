"""The demo as `make demo PAGE=no` runs it, on the real base, and what the page shows of its server."""

import asyncio
import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from demos.page.classify_tab import EXAMPLES, classify
from demos.page.server_client import ServerClient
from demos.server import running_server

pytestmark = pytest.mark.slow
DEMO = [sys.executable, "-m", "demos.quickstart", "--json", "--out"]


@pytest.fixture(scope="module")
def out(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("demo") / "out"


@pytest.fixture(scope="module")
def table(out: Path) -> dict[str, Any]:
    result = subprocess.run([*DEMO, str(out)], capture_output=True, text=True)
    assert result.returncode == 0, result.stderr[-2000:]
    return json.loads(result.stdout)


def test_both_adapters_work_and_serving_changes_no_answer(table: dict[str, Any]) -> None:
    rows = {row["adapter"]: row for row in table["adapters"]}
    # A constant answer gives 0.5 and 0.17; both floors are far above and well below what the demo reaches.
    assert rows["tone"]["accuracy_served"] > 0.7
    assert rows["intent"]["accuracy_served"] > 0.7
    for row in rows.values():
        assert row["accuracy_served"] == pytest.approx(row["accuracy_pytorch"])
        assert row["adapter_share_of_base"] < 0.005


def test_a_second_run_reuses_what_is_there(table: dict[str, Any], out: Path) -> None:
    before = {path: path.stat().st_mtime_ns for path in out.rglob("*.safetensors")}
    result = subprocess.run([*DEMO, str(out)], capture_output=True, text=True)
    assert result.returncode == 0
    assert {path: path.stat().st_mtime_ns for path in out.rglob("*.safetensors")} == before
    assert "training" not in result.stderr


def test_the_page_asks_every_adapter(table: dict[str, Any], out: Path) -> None:
    with running_server(out / "bank") as address:
        found = asyncio.run(classify(ServerClient(address), None, EXAMPLES[0], "", ["tone", "intent"]))
    best = re.findall(r'<ul class="adamix-bars"><li><span class="adamix-label">(\w+)<', found)
    assert best == ["negative", "delivery"]
    assert "2 adapters in one request" in found
