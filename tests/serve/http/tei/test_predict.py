from pathlib import Path

import httpx
import pytest

from serve.classification.classifier import Classifier
from tests.fixtures.members import bundle_with_members
from tests.serve.conftest import Reference, live_server


def test_one_text_gives_its_labels_likeliest_first(client: httpx.Client, classifier: Classifier) -> None:
    response = client.post("/predict", json={"inputs": "the bill is late", "adapter": "intent"})
    assert response.status_code == 200
    expected = classifier("the bill is late", adapter="intent")[0]
    assert response.json()[0] == {"label": expected.label, "score": pytest.approx(float(expected.scores.max()))}
    assert [score["score"] for score in response.json()] == sorted(expected.scores.tolist(), reverse=True)
    assert response.headers["x-adapter"] == "intent"
    assert response.headers["x-adapter-sha256"] == classifier.cards["intent"].sha256


def test_the_rows_of_a_request_may_name_different_adapters(client: httpx.Client, classifier: Classifier) -> None:
    body = {"inputs": [["good"], ["the bill is late"], ["bad"]], "adapter": ["tone", "intent", "tone"]}
    response = client.post("/predict", json=body)
    assert [len(scores) for scores in response.json()] == [2, 3, 2]
    assert response.headers["x-adapter"] == "tone,intent"
    texts = [text for (text,) in body["inputs"]]
    labels = [prediction.label for prediction in classifier(texts, adapter=body["adapter"])]
    assert [scores[0]["label"] for scores in response.json()] == labels


def test_labels_name_the_adapter_where_that_is_asked_for(client: httpx.Client, classifier: Classifier) -> None:
    body = {"inputs": [["good"], ["bad"]], "adapter": ["tone", "intent"], "return_adapter": True}
    for scores, name in zip(client.post("/predict", json=body).json(), body["adapter"], strict=True):
        assert {(one["adapter"], one["sha256"]) for one in scores} == {(name, classifier.cards[name].sha256)}


def test_the_batch_of_a_text_is_named_where_that_is_asked_for(client: httpx.Client) -> None:
    body = {"inputs": [["good"], ["bad"], ["good"]], "adapter": ["tone", "intent", "tone"]}
    assert "x-batch" not in client.post("/predict", json=body).headers
    assert client.post("/predict", json={**body, "return_batch": True}).headers["x-batch"] == "tone=2;intent=1"


def test_raw_scores_are_logits(client: httpx.Client, classifier: Classifier) -> None:
    response = client.post("/predict", json={"inputs": "good", "adapter": "tone", "raw_scores": True})
    expected = dict(zip(["negative", "positive"], classifier("good", adapter="tone")[0].logits.tolist(), strict=True))
    assert {score["label"]: score["score"] for score in response.json()} == pytest.approx(expected)


def test_pairs_come_alone_and_in_batches(mixed: Classifier) -> None:
    with live_server(mixed) as client:
        expected = mixed([("good", "the bill")], adapter="match")[0]
        one = client.post("/predict", json={"inputs": ["good", "the bill"], "adapter": "match"}).json()
        assert one[0] == {"label": expected.label, "score": pytest.approx(float(expected.scores.max()))}
        body = {"inputs": [["good", "the bill"], ["bad"], ["late"]], "adapter": ["match", "grade", "tone"]}
        batch = client.post("/predict", json=body).json()
        assert batch[0] == one
        grade = float(mixed("bad", adapter="grade")[0].logits[0])
        assert batch[1] == [{"label": "score", "score": pytest.approx(grade)}]
        lone = client.post("/predict", json={"inputs": [["good"]], "adapter": "match"})
        assert (lone.status_code, lone.json()["error"]) == (
            422,
            "adapter match takes pairs of texts: send two texts, not one",
        )
        info = client.get("/info").json()["adapters"]
        assert [info[name]["pairs"] for name in ("match", "grade")] == [True, False]
        assert [info[name]["regression"] for name in ("match", "grade")] == [False, True]


def test_a_long_text_is_cut_where_that_is_asked_for(client: httpx.Client) -> None:
    body = {"inputs": "very " * 50_000, "adapter": "tone", "truncate": True}
    assert client.post("/predict", json=body).status_code == 200


def test_fields_at_their_defaults_change_nothing(client: httpx.Client) -> None:
    body = {"inputs": "good", "adapter": "tone"}
    for fields in ({"truncate": None}, {"truncation_direction": "Right"}, {"truncation_direction": None}):
        assert client.post("/predict", json={**body, **fields}).json() == client.post("/predict", json=body).json()
    left = client.post("/predict", json={**body, "truncation_direction": "Left"})
    assert (left.status_code, left.json()["error"].partition(":")[0]) == (
        422,
        "truncation_direction",
    )


def test_long_texts_are_read_in_windows_when_asked(client: httpx.Client, classifier: Classifier) -> None:
    text = "good bad late bill the is very good bad the bill is late"
    body = {"inputs": text, "adapter": "intent", "windows": True, "overlap": 2}
    found = {one["label"]: one["score"] for one in client.post("/predict", json=body).json()}
    (expected,) = classifier(text, adapter="intent", windows=True, overlap=2)
    assert found == pytest.approx(dict(zip(expected.labels, expected.scores.tolist(), strict=True)), abs=1e-5)
    response = client.post("/predict", json={**body, "inputs": text * 90})
    assert response.status_code == 422
    assert "windows; at most 64 go into one request" in response.json()["error"]


@pytest.mark.parametrize(
    ("body", "status", "message"),
    [
        ({"inputs": "good", "adapter": "mood"}, 404, "there is no adapter 'mood' here; there are tone, intent"),
        ({"inputs": "good"}, 422, "name an adapter: tone, intent"),
        ({"inputs": "", "adapter": "tone"}, 422, "the text is empty"),
        ({"inputs": "\u200b\u200b", "adapter": "tone"}, 422, "the text is empty"),
        ({"inputs": "\0\0", "adapter": "tone"}, 422, "the text is empty"),
        ({"inputs": [["good"], [" "]], "adapter": "tone"}, 422, "the text is empty"),
        ({"inputs": [], "adapter": "tone"}, 422, "inputs is empty"),
        ({"inputs": [[]], "adapter": "tone"}, 422, "a batch is a list of one-text lists"),
        ({"inputs": ["good", "bad", "late"], "adapter": "tone"}, 422, "a batch is a list of one-text lists"),
        ({"inputs": ["good"] * 100, "adapter": "tone"}, 422, "a batch is a list of one-text lists"),
        ({"inputs": ["good", "bad"], "adapter": "tone"}, 422, "adapter tone takes one text, not a pair"),
        ({"inputs": [["good", "bad"]], "adapter": "tone"}, 422, "adapter tone takes one text, not a pair"),
        ({"inputs": "very " * 20, "adapter": "tone"}, 422, "more than 8 tokens"),
        (
            {"inputs": "a " * 950_000, "adapter": "tone", "windows": True, "overlap": 5},
            422,
            "the text has 1900000 characters: at most 262144 are tokenized",
        ),
        ({"inputs": "a " * 950_000, "adapter": "tone", "truncate": True}, 422, "the text has 1900000 characters"),
        (
            {"inputs": "a " * 100_000, "adapter": "tone", "windows": True, "overlap": 5},
            422,
            "the texts have 99995 windows; at most 64 go into one request",
        ),
        ({"inputs": "good", "adapter": "tone", "overlap": 0}, 422, "overlap is 0 without windows: set windows to true"),
        ({"inputs": [["good"]] * 100, "adapter": "tone"}, 422, "inputs has 100 texts; at most 64"),
        ({"inputs": [["good"]], "adapter": ["tone", "tone"]}, 422, "names 2 adapters for 1 texts"),
        ({"inputs": "good", "adaptor": "tone"}, 422, "adaptor: unknown field, leave it out"),
        ({"inputs": 7, "adapter": "tone"}, 422, "inputs"),
        ({"adapter": "tone"}, 422, "inputs: Field required"),
    ],
)
def test_a_bad_request_gets_the_reason(
    client: httpx.Client, body: dict[str, object], status: int, message: str
) -> None:
    response = client.post("/predict", json=body)
    assert response.status_code == status
    assert message in response.json()["error"]


@pytest.fixture
def members(tmp_path: Path, reference: Reference) -> Classifier:
    """A classifier of two adapters, of one of which the members are there."""
    return Classifier(bundle_with_members(tmp_path, reference, ["tone", "intent"], of=["tone"]), provider="cpu")


def test_members_give_each_label_its_spread(members: Classifier) -> None:
    (expected,) = members("the bill is late", adapter="tone", members=True)
    spreads = dict(zip(expected.labels, expected.spread.tolist(), strict=True))
    body = {"inputs": "the bill is late", "adapter": "tone"}
    with live_server(members) as client:
        plain = client.post("/predict", json=body).json()
        response = client.post("/predict", json={**body, "members": True})
        raw = client.post("/predict", json={**body, "members": True, "raw_scores": True}).json()
        assert [{"label": one["label"], "score": pytest.approx(one["score"])} for one in plain] == [
            {"label": one["label"], "score": one["score"]} for one in response.json()
        ]
        for scores in (response.json(), raw):
            assert {one["label"]: one["spread"] for one in scores} == pytest.approx(spreads, abs=1e-5)
        assert all(one.keys() == {"label", "score"} for one in plain)
        assert response.headers["x-adapter"] == "tone"


def test_members_that_are_not_there_and_too_many_rows_are_refused(members: Classifier) -> None:
    with live_server(members, max_client_batch_size=10) as client:
        absent = client.post("/predict", json={"inputs": "good", "adapter": "intent", "members": True})
        assert absent.status_code == 422
        assert absent.json()["error"].endswith("export its mixture with --keep-modules")
        body = {"inputs": [["good"]] * 3, "adapter": "tone"}
        assert client.post("/predict", json=body).status_code == 200
        many = client.post("/predict", json={**body, "members": True})
        assert many.status_code == 422
        assert "3 texts at once, each through its adapter's members, are 15 rows: at most 10" in many.json()["error"]
