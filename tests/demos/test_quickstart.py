"""The demo as `make demo PAGE=no` runs it, on the real base, and what the page shows of its server."""

import asyncio
import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer

from demos.models import sample_model
from demos.page.classify_tab import EXAMPLES, classify
from demos.page.server_client import ServerClient
from demos.quickstart import main
from demos.server import running_server

pytestmark = pytest.mark.slow
DEMO = [sys.executable, "-m", "demos.quickstart", "--json"]


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """The command, which writes with a random decoder in SmolLM2's place: two layers, and SmolLM2's own tokenizer."""
    smollm2, folder = sample_model("smollm2"), tmp_path_factory.mktemp("decoder")
    size = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "head_dim": 16}
    heads = {"num_attention_heads": 2, "num_key_value_heads": 1}
    torch.manual_seed(0)
    config = AutoConfig.from_pretrained(smollm2, **size, **heads, initializer_range=0.3)
    AutoModelForCausalLM.from_config(config).save_pretrained(folder)
    AutoTokenizer.from_pretrained(smollm2).save_pretrained(folder)
    return [*DEMO, "--decoder", str(folder), "--out"]


@pytest.fixture(scope="module")
def out(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("demo") / "out"


@pytest.fixture(scope="module")
def table(demo: list[str], out: Path) -> dict[str, Any]:
    result = subprocess.run([*demo, str(out)], capture_output=True, text=True)
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


def test_a_second_run_reuses_what_is_there(table: dict[str, Any], demo: list[str], out: Path) -> None:
    before = {path: path.stat().st_mtime_ns for path in out.rglob("*.safetensors")}
    result = subprocess.run([*demo, str(out)], capture_output=True, text=True)
    assert result.returncode == 0
    assert {path: path.stat().st_mtime_ns for path in out.rglob("*.safetensors")} == before
    assert "training" not in result.stderr


def test_the_page_asks_every_adapter(table: dict[str, Any], out: Path) -> None:
    with running_server(out / "bank") as address:
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
