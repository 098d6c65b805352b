"""The demo as `make demo PAGE=no` runs it, on the real base, and what the page shows of its server."""

import asyncio
import re
import subprocess
from pathlib import Path
from typing import Any

import pytest

from demos.page.classify_tab import EXAMPLES, classify
from demos.page.server_client import ServerClient
from demos.quickstart import main
from demos.server import running_server
from tests.fixtures.finished_demo import Demo, finished_demo

pytestmark = [pytest.mark.slow, pytest.mark.timeout(3600)]


@pytest.fixture(scope="module", params=[False, pytest.param(True, marks=pytest.mark.soak)])
def demo(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Demo:
    return finished_demo(tmp_path_factory, whole=request.param)


@pytest.fixture(scope="module")
def table(demo: Demo) -> dict[str, Any]:
    return demo.table


def test_both_adapters_work_and_serving_changes_no_answer(table: dict[str, Any]) -> None:
    rows = {row["adapter"]: row for row in table["adapters"]}
    # A constant answer gives 0.5 and 0.17; both floors are far above and well below what the demo reaches.
    assert rows["tone"]["accuracy_served"] > 0.7
    assert rows["intent"]["accuracy_served"] > 0.7
    for row in rows.values():
        assert row["accuracy_served"] == pytest.approx(row["accuracy_pytorch"])
        assert row["adapter_share_of_base"] < 0.005


def test_texts_are_as_good_served_as_before_export(table: dict[str, Any]) -> None:
    base, before, served = table["texts"]
    assert [(row["model"], row["where"]) for row in table["texts"]] == [
        ("base", "served"), ("events", "PyTorch"), ("events", "served"),
    ]  # fmt: skip
    # A random base writes no sentences; that both ways write the same is what this shows.
    for measure in ("bleu", "chrf", "fact_coverage"):
        assert served[measure] == pytest.approx(before[measure], abs=1e-6)
    assert before["tokens_per_second"] is None
    assert min(base["tokens_per_second"], served["tokens_per_second"]) > 0


def test_a_second_run_reuses_what_is_there(demo: Demo) -> None:
    before = {path: path.stat().st_mtime_ns for path in demo.out.rglob("*.safetensors")}
    result = subprocess.run(demo.command, capture_output=True, text=True)
    assert result.returncode == 0
    assert {path: path.stat().st_mtime_ns for path in demo.out.rglob("*.safetensors")} == before
    assert "training" not in result.stderr


def test_the_page_asks_every_adapter(demo: Demo) -> None:
    with running_server(demo.out / "bank") as address:
        found = asyncio.run(classify(ServerClient(address), None, EXAMPLES[0], "", ["tone", "intent"]))
    best = re.findall(r'<ul class="adamix-bars"><li><span class="adamix-label">(\w+)<', found)
    assert best == ["negative", "delivery"]
    assert "2 adapters in one request" in found


def test_a_decoder_that_is_none_is_refused_before_anything_is_trained(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit):
        main(["--decoder", str(tmp_path), "--out", str(tmp_path / "out")])
    assert f"--decoder: {tmp_path} holds no model" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()
