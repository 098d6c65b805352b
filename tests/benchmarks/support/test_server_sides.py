"""The servers of the benchmark: a small one in place of theirs, and infinity-emb where it is installed."""

import contextlib
import json
import math
import sys
import urllib.request
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import onnx
import pytest
from onnx import TensorProto, helper

from benchmarks.peers import PEERS, Peer
from benchmarks.support import server_sides
from benchmarks.support.classifier_sides import OURS
from benchmarks.support.errors import PeerError
from benchmarks.support.report import Absent
from benchmarks.support.server_sides import INFINITY, LITSERVE, SIDES, Files, Side, open_servers
from tests.serve.conftest import write_tokenizer

ECHO = """
import sys
from http.server import BaseHTTPRequestHandler, HTTPServer

class Handler(BaseHTTPRequestHandler):
    def do_POST(self):
        body = self.rfile.read(int(self.headers["content-length"]))
        self.send_response(200)
        self.end_headers()
        self.wfile.write(self.path.encode() + body)

HTTPServer(("127.0.0.1", int(sys.argv[1])), Handler).serve_forever()
"""


@pytest.fixture
def files(tmp_path: Path) -> Files:
    bank: Any = SimpleNamespace(folder=tmp_path / "bank", tokenizer=tmp_path / "bank" / "tokenizer.json")
    adapters = [tmp_path / "a0", tmp_path / "a1"]
    return Files(bank=bank, adapters=adapters, model=tmp_path / "model", cache=tmp_path / "cache")


def absent_peer(files: Files, port: int) -> list[str]:
    raise PeerError("its environment is not installed: make peers")


def test_servers_answer_on_their_paths_and_a_peer_that_is_not_there_is_named(files: Files) -> None:
    echo = Side(
        command=lambda files, port: [sys.executable, "-c", ECHO, str(port)],
        body=lambda text, adapter: [text, adapter],
        path="/classify",
    )
    sides = {"echo": echo, "gone": Side(command=absent_peer, body=echo.body)}
    with contextlib.ExitStack() as running:
        servers, absent = open_servers(files, running, sides)
        body = json.dumps(echo.body("late", "a1")).encode()
        with urllib.request.urlopen(servers["echo"].url, body) as response:
            assert response.read() == b'/classify["late", "a1"]'
    assert list(servers) == ["echo"]
    assert absent == [Absent(peer="gone", reason="its environment is not installed: make peers")]


def test_each_server_opens_the_files_on_the_port(files: Files, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Peer, "require", lambda self: None)
    monkeypatch.setattr(Peer, "convert", lambda self, script, model: model / script)
    commands = {name: side.command(files, 8123) for name, side in SIDES.items()}
    graph = files.model / "optimum_export.py" / "model_optimized.onnx"
    assert {"--adapter", str(files.adapters[1]), "8123"} < set(commands[OURS])
    assert commands[LITSERVE][-3:] == [str(graph), str(files.bank.tokenizer), "8123"]
    assert {"optimum", str(graph.parent), "--no-model-warmup", "8123"} < set(commands[INFINITY])


def test_infinity_answers_with_the_graph_beside_the_configuration(
    files: Files, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    try:
        PEERS[INFINITY].require()
    except PeerError as error:
        pytest.skip(f"{INFINITY}: {error}")
    monkeypatch.setattr(server_sides, "optimum_graph", lambda model: write_counter(tmp_path))
    side = SIDES[INFINITY]
    with contextlib.ExitStack() as running:
        servers, absent = open_servers(files, running, {INFINITY: side})
        assert absent == []
        request = urllib.request.Request(
            servers[INFINITY].url,
            json.dumps(side.body("good bad", "a0")).encode(),
            {"content-type": "application/json"},
        )
        with urllib.request.urlopen(request) as response:
            (scores,) = json.load(response)["data"]
    chance = 1 / (1 + math.exp(-4))
    assert {one["label"]: one["score"] for one in scores} == pytest.approx({"many": chance, "none": 1 - chance})


def write_counter(folder: Path) -> Path:
    """Write a classifier whose logits are the number of a text's tokens and 0; return its graph."""
    node = helper.make_node
    nodes = [
        node("ReduceSum", ["attention_mask", "axis"], ["count"]),
        node("Sub", ["count", "count"], ["zero"]),
        node("Concat", ["count", "zero"], ["both"], axis=1),
        node("Cast", ["both"], ["logits"], to=TensorProto.FLOAT),
    ]
    graph = helper.make_graph(
        nodes,
        "counter",
        [
            helper.make_tensor_value_info(name, TensorProto.INT64, ["batch", "sequence"])
            for name in ("input_ids", "attention_mask")
        ],
        [helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["batch", 2])],
        [helper.make_tensor("axis", TensorProto.INT64, [1], [1])],
    )
    file = folder / "model_optimized.onnx"
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10), file)
    write_tokenizer(folder / "tokenizer.json")
    (folder / "tokenizer_config.json").write_text(json.dumps({"tokenizer_class": "PreTrainedTokenizerFast"}))
    config = {"model_type": "bert", "architectures": ["BertForSequenceClassification"]}
    (folder / "config.json").write_text(json.dumps({**config, "id2label": {"0": "many", "1": "none"}}))
    return file
