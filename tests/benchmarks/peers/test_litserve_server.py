"""The program of LitServe, on a graph whose logits are the sums of its inputs: token ids, mask and token types."""

import json
import sys
import urllib.request
from pathlib import Path

import onnx
import pytest
from onnx import TensorProto, helper

from benchmarks.peers import HERE
from benchmarks.support.processes import free_port, serving
from tests.benchmarks.peers.fakes import litserve
from tests.benchmarks.peers.programs import fake_environment, load_program
from tests.serve.conftest import write_tokenizer

INPUTS = ["input_ids", "attention_mask", "token_type_ids"]


@pytest.fixture
def model(tmp_path: Path) -> list[str]:
    """The files of the graph and of the tokenizer."""
    node = helper.make_node
    nodes = [node("ReduceSum", [name, "axis"], [f"{name}.sum"]) for name in INPUTS]
    nodes.append(node("Concat", [f"{name}.sum" for name in INPUTS], ["sums"], axis=1))
    nodes.append(node("Cast", ["sums"], ["logits"], to=TensorProto.FLOAT))
    graph = helper.make_graph(
        nodes,
        "sums",
        [helper.make_tensor_value_info(name, TensorProto.INT64, ["batch", "sequence"]) for name in INPUTS],
        [helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["batch", 3])],
        [helper.make_tensor("axis", TensorProto.INT64, [1], [1])],
    )
    onnx.save(
        helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10), tmp_path / "sums.onnx"
    )
    write_tokenizer(tmp_path / "tokenizer.json")
    return [str(tmp_path / "sums.onnx"), str(tmp_path / "tokenizer.json")]


def test_texts_of_a_batch_are_padded_and_cut_to_128_tokens(model: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    program = load_program("litserve_server", monkeypatch, litserve=litserve)
    monkeypatch.setattr(sys, "argv", ["litserve_server.py", *model, "0"])
    api = program.Api()
    api.setup("cpu")
    texts = [api.decode_request({"input": text}) for text in ("good bad", "late", "good " * 200)]
    answers = [api.encode_response(output) for output in api.unbatch(api.predict(api.batch(texts)))]
    assert [answer["logits"] for answer in answers] == [[1 + 4 + 5 + 2, 4, 0], [1 + 6 + 2, 3, 0], [126 * 4 + 3, 128, 0]]
    assert api.encode_response(api.predict("late")) == answers[1]


def test_a_text_that_is_posted_is_answered_with_its_logits(model: list[str], tmp_path: Path) -> None:
    port, body = free_port(), {"input": "good bad"}
    command = [str(fake_environment(tmp_path, "litserve").python), "-I", str(HERE / "litserve_server.py"), *model]
    with (
        serving([*command, str(port)], port, body) as server,
        urllib.request.urlopen(server.url, json.dumps(body).encode()) as response,
    ):
        assert json.load(response) == {"logits": [12, 4, 0]}
