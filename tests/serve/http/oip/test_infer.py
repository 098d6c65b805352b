import json
import struct
from dataclasses import replace
from typing import Any

import httpx
import numpy as np
import pytest

from serve.classification.async_classifier import AsyncClassifier
from serve.classification.classifier import Classifier
from serve.prediction import Prediction
from serve.requests import ClassificationRequest
from tests.serve.conftest import live_server

TONE, INTENT, BANK = "/v2/models/tone/infer", "/v2/models/intent/infer", "/v2/models/adamix/infer"
HEADER = "Inference-Header-Content-Length"
FALSY = [(None, "NoneType"), (0, "int"), (False, "bool"), (0.0, "float"), ([[]], "list"), ([{}], "dict"), ([0], "int")]
"""Values that are no text and count as false, alone or in a list of their own, and the types that errors name."""


def texts(*values: str, name: str = "text", **fields: Any) -> dict[str, Any]:
    return {"name": name, "datatype": "BYTES", "shape": [len(values)], "data": list(values), **fields}


def body(*inputs: dict[str, Any], **fields: Any) -> dict[str, Any]:
    return {"inputs": list(inputs), **fields}


def found(response: httpx.Response) -> dict[str, Any]:
    assert response.status_code == 200, response.text
    return {output["name"]: output["data"] for output in response.json()["outputs"]}


def test_texts_go_in_and_scores_come_out(client: httpx.Client, classifier: Classifier) -> None:
    response = client.post(INTENT, json=body(texts("the bill is late", "good"), id="7"))
    expected = classifier(["the bill is late", "good"], adapter="intent")
    answer = response.json()
    assert (answer["id"], answer["model_name"]) == ("7", "intent")
    assert answer["model_version"] == expected[0].sha256[:12]
    assert {one["name"]: (one["datatype"], one["shape"]) for one in answer["outputs"]} == {
        "label": ("BYTES", [2]),
        "score": ("FP32", [2]),
        "scores": ("FP32", [2, 3]),
        "labels": ("BYTES", [3]),
    }
    data = found(response)
    assert data["label"] == [one.label for one in expected]
    assert data["labels"] == ["billing", "delivery", "other"]
    assert data["scores"] == pytest.approx(np.concatenate([one.scores for one in expected]).tolist())
    assert data["score"] == pytest.approx([float(one.scores.max()) for one in expected])
    assert (response.headers["x-adapter"], response.headers["x-adapter-sha256"]) == ("intent", expected[0].sha256)


def test_rows_of_the_bank_name_their_adapters(client: httpx.Client, classifier: Classifier) -> None:
    names = ["tone", "intent", "tone"]
    asked = body(texts("good", "bill", "bad"), texts(*names, name="adapter"))
    data = found(client.post(BANK, json=asked))
    expected = classifier(["good", "bill", "bad"], adapter=names)
    assert data["label"] == [one.label for one in expected]
    assert set(data) == {"label", "score"}, "tone and intent have different labels"


def test_a_parameter_names_the_adapter_of_all_rows(client: httpx.Client, classifier: Classifier) -> None:
    expected = classifier(["good", "bill"], adapter="intent")
    for path in (BANK, INTENT):
        response = client.post(path, json=body(texts("good", "bill"), parameters={"adapter": "intent"}))
        data = found(response)
        assert data["label"] == [one.label for one in expected]
        assert data["score"] == pytest.approx([float(one.scores.max()) for one in expected])
        assert response.headers["x-adapter"] == "intent"


def test_binary_tensors_are_laid_out_as_the_protocol_says(client: httpx.Client, classifier: Classifier) -> None:
    data = b"".join(struct.pack("<I", len(text)) + text for text in (b"good", "the b\u00efll".encode()))
    given = {"name": "text", "datatype": "BYTES", "shape": [2, 1], "parameters": {"binary_data_size": len(data)}}
    asked = body(given, outputs=[{"name": "scores", "parameters": {"binary_data": True}}, {"name": "label"}])
    start = json.dumps(asked).encode()
    response = client.post(TONE, content=start + data, headers={HEADER: str(len(start))})
    assert response.status_code == 200, response.text
    length = int(response.headers[HEADER])
    scores, label = json.loads(response.content[:length])["outputs"]
    expected = classifier(["good", "the b\u00efll"], adapter="tone")
    assert label["data"] == [one.label for one in expected]
    assert (scores["shape"], scores["parameters"]) == ([2, 2], {"binary_data_size": 16})
    rest = struct.unpack("<4f", response.content[length:])
    assert rest == pytest.approx(np.concatenate([one.scores for one in expected]).tolist())


def test_all_outputs_are_binary_where_that_is_asked_for(client: httpx.Client, classifier: Classifier) -> None:
    asked = body(texts("good"), parameters={"binary_data_output": True, "raw_scores": True})
    response = client.post(TONE, json=asked)
    length = int(response.headers[HEADER])
    outputs = json.loads(response.content[:length])["outputs"]
    (expected,) = classifier("good", adapter="tone")
    label = expected.label.encode()
    parts = [
        struct.pack("<I", len(label)) + label,
        struct.pack("<f", expected.logits.max()),
        struct.pack("<2f", *expected.logits),
        b"".join(struct.pack("<I", len(name)) + name.encode() for name in expected.labels),
    ]
    assert [one["parameters"]["binary_data_size"] for one in outputs] == [len(part) for part in parts]
    assert response.content[length:] == b"".join(parts)


def test_pairs_and_regressions(mixed: Classifier) -> None:
    with live_server(mixed) as client:
        pair = body(texts("good", "bad"), texts("the bill", "late", name="text_pair"))
        data = found(client.post("/v2/models/match/infer", json=pair))
        expected = mixed([("good", "the bill"), ("bad", "late")], adapter="match")
        assert data["label"] == [one.label for one in expected]
        data = found(client.post("/v2/models/grade/infer", json=body(texts("bad"))))
        assert data == {"score": pytest.approx(mixed("bad", adapter="grade")[0].logits.tolist())}
        metadata = client.get("/v2/models/match").json()
        assert [one["name"] for one in metadata["inputs"]] == ["text", "text_pair"]
        lone = client.post("/v2/models/match/infer", json=body(texts("good")))
        assert (lone.status_code, lone.json()["error"]) == (
            422,
            "adapter match takes pairs of texts: send two texts, not one",
        )


def test_parameters_mean_what_they_mean_elsewhere(client: httpx.Client, classifier: Classifier) -> None:
    long = "good bad late bill the is very " * 3
    assert client.post(TONE, json=body(texts(long))).status_code == 422
    cut = found(client.post(TONE, json=body(texts(long), parameters={"truncate": True})))
    windows = found(client.post(TONE, json=body(texts(long), parameters={"windows": True, "overlap": 2})))
    assert cut["scores"] == pytest.approx(classifier(long, adapter="tone")[0].scores.tolist())
    assert windows["scores"] == pytest.approx(
        classifier(long, adapter="tone", windows=True, overlap=2)[0].scores.tolist(), abs=1e-5
    )


def test_a_body_may_name_the_model_of_its_path_and_no_other(client: httpx.Client) -> None:
    """KServe's client does."""
    inputs = [{"name": "text", "datatype": "BYTES", "shape": [1], "data": ["a"]}]
    url = "/v2/models/tone/infer"
    assert client.post(url, json={"model_name": "tone", "model_version": None, "inputs": inputs}).status_code == 200
    for field in ("model_name", "model_version"):
        refused = client.post(url, json={field: "intent", "inputs": inputs})
        assert refused.status_code == 422 and f"{field} is 'intent', and the path has " in refused.text


def test_null_parameters_are_none(client: httpx.Client) -> None:
    tensor, output = texts("good", parameters=None), {"name": "label", "parameters": None}
    plain = client.post(TONE, json=body(texts("good"), outputs=[{"name": "label"}])).json()
    assert client.post(TONE, json=body(tensor, parameters=None, outputs=[output])).json() == plain


def test_a_version_is_that_of_the_weights(client: httpx.Client, classifier: Classifier) -> None:
    version = classifier.cards["tone"].sha256[:12]
    assert client.post(f"/v2/models/tone/versions/{version}/infer", json=body(texts("good"))).status_code == 200
    other = client.post("/v2/models/tone/versions/1/infer", json=body(texts("good")))
    assert (other.status_code, other.json()) == (404, {"error": f"model 'tone' has no version '1'; there is {version}"})


def test_weights_that_are_replaced_meanwhile_do_not_answer_for_the_version_before(
    classifier: Classifier, monkeypatch: pytest.MonkeyPatch
) -> None:
    version = classifier.cards["tone"].sha256[:12]
    classify = AsyncClassifier.classify

    async def replaced(self: AsyncClassifier, request: ClassificationRequest) -> list[Prediction]:
        return [replace(one, sha256="f" * 64) for one in await classify(self, request)]

    monkeypatch.setattr(AsyncClassifier, "classify", replaced)
    with live_server(classifier) as client:
        answer = client.post(f"/v2/models/tone/versions/{version}/infer", json=body(texts("good")))
        assert (answer.status_code, "any more; there is ffffffffffff" in answer.text) == (404, True)
        assert client.post(TONE, json=body(texts("good"))).json()["model_version"] == "ffffffffffff"


@pytest.mark.parametrize(
    ("path", "asked", "status", "message"),
    [
        ("/v2/models/mood/infer", body(texts("a")), 404, "there is no model 'mood'; there are adamix, "),
        (TONE, body(), 422, "there is no text: send the input 'text', of BYTES"),
        (TONE, body(texts("a"), texts("a")), 422, "inputs has 'text' twice"),
        (TONE, body(texts("a", name="txt")), 422, "model 'tone' has no input 'txt'; it has text"),
        (TONE, body(texts("a"), texts("b", name="text_pair")), 422, "model 'tone' has no input 'text_pair'"),
        (TONE, body(texts("a", datatype="FP32")), 422, "input 'text' is of FP32: texts are of BYTES"),
        (TONE, body(texts("a", shape=[2])), 422, "input 'text' has 1 texts, but its shape is [2]"),
        (TONE, body(texts("a", shape=[1, 1, 1])), 422, "give (rows,) or (rows, 1)"),
        (TONE, body(texts("a", shape=[True])), 422, "inputs.0.shape.0: Input should be a valid integer"),
        (TONE, body(texts("a", shape=["1"])), 422, "inputs.0.shape.0: Input should be a valid integer"),
        (TONE, body(texts("a", shape=[1.0])), 422, "inputs.0.shape.0: Input should be a valid integer"),
        (TONE, body(texts("a", shape=[-1])), 422, "give (rows,) or (rows, 1)"),
        (TONE, body(texts("a", data=[1])), 422, "input 'text' has int in its data: send strings"),
        (TONE, body(texts("a", data=[["a", "b"]])), 422, "input 'text' has list in its data"),
        *((TONE, body(texts("a", data=[wrong])), 422, f"input 'text' has {kind} in its data") for wrong, kind in FALSY),
        (TONE, body(texts("a", "b", data=["good", None])), 422, "input 'text' has NoneType in its data: send strings"),
        (
            BANK,
            body(texts("a"), texts("", name="adapter", data=[None])),
            422,
            "input 'adapter' has NoneType in its data: send strings",
        ),
        (TONE, body(texts("a"), outputs=[{"name": ""}]), 422, "model 'tone' has no output ''; it has label"),
        (TONE, body(texts("a"), texts("b", name="")), 422, "model 'tone' has no input ''; it has text"),
        (TONE, body(texts("a", parameters={"": 1})), 422, "input 'text' has an unknown parameter ''"),
        (
            TONE,
            body(texts("a"), outputs=[{"name": "label", "parameters": {"": 1}}]),
            422,
            "output 'label' has an unknown parameter ''; known is binary_data",
        ),
        (TONE, body(texts("a"), parameters={"": 1}), 422, "unknown parameter ''"),
        (TONE, body(texts("a", data=None)), 422, "input 'text' has neither data nor binary_data_size"),
        (TONE, body(texts(*["a"] * 65)), 422, "input 'text' has 65 texts; at most 64 go into one request"),
        (TONE, body(texts("a"), parameters={"model": "x"}), 422, "unknown parameter 'model'; known are truncate"),
        (
            TONE,
            body(texts("a"), parameters={"adapter": "intent"}),
            422,
            "parameter adapter is 'intent', and the model is 'tone': ask /v2/models/intent or adamix",
        ),
        (TONE, body(texts("a"), parameters={"overlap": 2}), 422, "overlap is 2 without windows: set windows to true"),
        (BANK, body(texts("a"), parameters={"adapter": "mood"}), 404, "'mood'"),
        (BANK, body(texts("a"), parameters={"adapter": 1}), 422, "parameter adapter is 1: it must be of type str"),
        (
            BANK,
            body(texts("a"), texts("tone", name="adapter"), parameters={"adapter": "tone"}),
            422,
            "adapter is an input and a parameter: send one of them",
        ),
        (TONE, body(texts("a"), parameters={"truncate": 1}), 422, "parameter truncate is 1: it must be of type bool"),
        (TONE, body(texts("a"), outputs=[{"name": "logits"}]), 422, "has no output 'logits'; it has label, score"),
        (TONE, body(texts("a"), classification=3), 422, "classification: unknown field, leave it out"),
        (
            TONE,
            body(texts("a"), outputs=[{"name": "label", "parameters": {"classification": 2}}]),
            422,
            "output 'label' has an unknown parameter 'classification'; known is binary_data",
        ),
        (TONE, body(texts("a", parameters={"x": 1})), 422, "input 'text' has an unknown parameter 'x'"),
        (
            TONE,
            body(texts("a"), outputs=[{"name": "label", "parameters": {"binary_data": "false"}}]),
            422,
            "parameter binary_data of output 'label' is 'false': it must be of type bool",
        ),
        (
            BANK,
            body(texts("a", "b"), texts("tone", name="adapter")),
            422,
            "input 'adapter' has 1 rows, and 'text' has 2",
        ),
        (
            BANK,
            body(texts("a"), texts("tone", name="adapter"), outputs=[{"name": "scores"}]),
            422,
            "model 'adamix' has no output 'scores'; it has label, score",
        ),
    ],
)
def test_a_request_that_is_wrong_is_told_why(
    client: httpx.Client, path: str, asked: dict[str, Any], status: int, message: str
) -> None:
    response = client.post(path, json=asked)
    assert response.status_code == status
    assert message in response.json()["error"]


@pytest.mark.parametrize(
    ("data", "size", "message"),
    [
        (b"\x04\x00\x00\x00goo", 7, "input 'text' is cut short"),
        (b"\x04\x00", 2, "input 'text' is cut short"),
        (b"\x04\x00\x00\x00good", 7, "input 'text' is cut short"),
        (b"\x01\x00\x00\x00\xff", 5, "input 'text' has bytes that are not UTF-8"),
        (b"\x01\x00\x00\x00a", 6, "binary_data_size 6"),
        (b"\x01\x00\x00\x00a", -1, "binary_data_size -1"),
        (b"\x01\x00\x00\x00ab", 5, "1 bytes behind the JSON belong to no input"),
    ],
)
def test_binary_data_that_does_not_fit_is_refused(client: httpx.Client, data: bytes, size: int, message: str) -> None:
    given = {"name": "text", "datatype": "BYTES", "shape": [1], "parameters": {"binary_data_size": size}}
    start = json.dumps(body(given)).encode()
    response = client.post(TONE, content=start + data, headers={HEADER: str(len(start))})
    assert response.status_code == 422
    assert message in response.json()["error"]


@pytest.mark.parametrize("header", ["-1", "x", "99999", "\u00b2", "1" * 5000])
def test_a_length_of_json_that_cannot_be_is_refused(client: httpx.Client, header: str) -> None:
    response = client.post(TONE, content=b"{}", headers={HEADER: header.encode()})
    assert response.status_code == 422
    assert HEADER in response.json()["error"]
