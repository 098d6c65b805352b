"""Pairs, scores and labels: each answers as PyTorch, alone and in one bank."""

import json
from pathlib import Path

import numpy as np
import peft
import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoTokenizer

from adamix_export.converters.table import convert
from adamix_export.errors import ParityError
from adamix_export.tasks import classification
from adamix_train.artifacts.checkpoint import WEIGHTS, read_card, write_card
from adamix_train.base_model.load import load_base
from adamix_train.tasks.table import TASKS
from adamix_train.training.objectives import OBJECTIVES
from serve.classification.classifier import Classifier
from serve.errors import InputError
from tests.adamix_export.conftest import Export, Exports
from tests.fixtures.random_checkpoints import make_encoder, mixture

pytestmark = pytest.mark.slow

TEXTS = ["good", "the parcel was bad", "my shop is great it was a fine shop", "the " * 30]
PAIRS = [("good", "bad"), ("the parcel was bad", "it is my"), ("a", "the " * 30), ("the good " * 15, "my bad " * 10)]
MANY = tuple(f"intent {index:02}" for index in range(77))


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_encoder(tmp_path_factory.mktemp("base"), "bert", num_hidden_layers=1)


@pytest.fixture(scope="module")
def runs(base: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Four heads, three kinds, four ranks, on one base."""
    folder = tmp_path_factory.mktemp("runs")
    return {
        "tone": mixture(folder / "tone", base, kind="houlsby", r=4),
        "intent": mixture(folder / "intent", base, kind="lora", r=6, labels=MANY, seed=1),
        "same": mixture(folder / "same", base, task="mrpc", kind="pfeiffer", r=3, labels=("no", "yes"), seed=2),
        "alike": mixture(folder / "alike", base, task="stsb", kind="lora", r=2, seed=3),
        "stars": mixture(folder / "stars", base, task="regression", kind="houlsby", r=5, seed=4),
    }


PAIRED = ("same", "alike")


def texts(name: str) -> list[str] | list[tuple[str, str]]:
    return PAIRS if name in PAIRED else TEXTS


def pytorch(checkpoint: Path, base: Path, rows: list[str] | list[tuple[str, str]]) -> np.ndarray:
    """Outputs of the checkpoint as PEFT loads it, each row by itself."""
    card = read_card(checkpoint)
    objective = OBJECTIVES[TASKS[card.task].kind]
    model = peft.PeftModel.from_pretrained(
        load_base(base, objective.model, **objective.settings(card.labels)).model, checkpoint
    ).eval()
    tokenizer = AutoTokenizer.from_pretrained(checkpoint)
    found = []
    for row in rows:
        parts = (row,) if isinstance(row, str) else row
        inputs = tokenizer(*parts, truncation=True, max_length=card.max_length, return_tensors="pt")
        with torch.inference_mode():
            found.append(model(**inputs).logits[0].numpy())
    return np.stack(found)


@pytest.fixture(scope="module")
def bank(runs: dict[str, Path], exported: Exports) -> Classifier:
    return Classifier(exported("bank", *runs.values()), provider="cpu")


def test_one_bank_holds_two_labels_77_labels_pairs_and_scores(
    bank: Classifier, runs: dict[str, Path], base: Path
) -> None:
    rows = [(name, text) for index in range(len(TEXTS)) for name in runs for text in texts(name)[index : index + 1]]
    mixed = bank([text for _, text in rows], adapter=[name for name, _ in rows])
    widths = {"tone": 2, "intent": 77, "same": 2, "alike": 1, "stars": 1}
    for name, run in runs.items():
        found = np.stack([answer.logits for answer in mixed if answer.adapter == name])
        assert found.shape == (len(TEXTS), widths[name])
        np.testing.assert_allclose(found, pytorch(run, base, texts(name)), atol=1e-4)


@pytest.mark.parametrize("name", ["same", "alike", "stars"])
def test_pairs_and_scores_answer_as_pytorch_from_a_merged_graph(
    name: str, runs: dict[str, Path], base: Path, export: Export, tmp_path: Path
) -> None:
    export("merged", runs[name])
    answers = Classifier(tmp_path / "out", provider="cpu")(texts(name), adapter=name)
    found = np.stack([answer.logits for answer in answers])
    np.testing.assert_allclose(found, pytorch(runs[name], base, texts(name)), atol=1e-4)


def test_the_second_text_has_a_token_type_of_its_own(bank: Classifier) -> None:
    assert bank.encode(("good", "the shop"), "same", truncate=False).token_type_ids == [0, 0, 0, 1, 1, 1]
    card = bank.cards["same"]
    assert all(set(types) == {0, 1} for types in card.canary_token_type_ids)
    assert [len(types) for types in card.canary_token_type_ids] == [len(ids) for ids in card.canary_ids]


@pytest.mark.parametrize("pair", PAIRS)
def test_a_pair_is_truncated_as_in_training(pair: tuple[str, str], bank: Classifier, runs: dict[str, Path]) -> None:
    row = bank.encode(pair, "same", truncate=True)
    trained = AutoTokenizer.from_pretrained(runs["same"])(*pair, truncation=True, max_length=16)
    assert (row.input_ids, row.token_type_ids) == (trained["input_ids"], trained["token_type_ids"])


def test_a_score_is_a_value_and_not_a_probability(bank: Classifier, runs: dict[str, Path], base: Path) -> None:
    answers = bank(TEXTS, adapter="stars")
    assert [answer.label for answer in answers] == ["score"] * len(TEXTS)
    values = [float(answer.scores[0]) for answer in answers]
    np.testing.assert_allclose(values, pytorch(runs["stars"], base, TEXTS)[:, 0], atol=1e-4)


def test_pairs_and_texts_are_told_apart(bank: Classifier) -> None:
    with pytest.raises(InputError, match="adapter same takes pairs of texts: send two texts, not one"):
        bank("good", adapter="same")
    with pytest.raises(InputError, match="adapter tone takes one text, not a pair"):
        bank([("good", "bad")], adapter="tone")


@pytest.mark.parametrize(
    ("name", "says"), [("alike", (True, True, ["score"])), ("tone", (False, False, ["negative", "positive"]))]
)
def test_an_adapter_says_what_it_takes_and_gives(
    name: str, says: tuple[bool, bool, list[str]], bank: Classifier
) -> None:
    card = json.loads((bank.bundle.folder / "adapters" / name / "adapter.json").read_text())
    assert (card["pairs"], card["regression"], card["labels"]) == says


def test_parity_measures_pairs_and_scores_on_their_data(
    base: Path, runs: dict[str, Path], export: Export, tmp_path: Path
) -> None:
    data = tmp_path / "stsb.tsv"
    scores = [1.5, 0.0, 4.25, 3.0]
    lines = [f"{first}\t{second}\t{score}" for (first, second), score in zip(PAIRS, scores, strict=True)]
    data.write_text("\n".join(["sentence1\tsentence2\tscore", *lines]) + "\n")
    report = export("merged", runs["alike"], data=data)["alike"]
    expected = np.corrcoef(pytorch(runs["alike"], base, PAIRS)[:, 0], scores)[0, 1]
    assert (report.metric, report.rows, report.equal_labels) == ("pearson", 8, 1)
    assert report.onnx == pytest.approx(expected, abs=1e-4)
    assert report.pytorch == pytest.approx(expected, abs=1e-4)


def test_a_score_that_is_off_fails_the_export(
    runs: dict[str, Path], export: Export, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    right = classification.logits
    monkeypatch.setattr(classification, "logits", lambda source, rows: right(source, rows) + 2e-4)
    with pytest.raises(ParityError, match=r"differ by up to 2\.0.e-04 .* 0\.00% of 4 labels"):
        export("merged", runs["stars"], again=True)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("target", ["onnx-adapter", "triton"])
def test_a_converted_bank_answers_pairs_and_scores_on_its_canary_rows(
    target: str, bank: Classifier, tmp_path: Path
) -> None:
    """Conversion runs them and refuses to write what does not answer as PyTorch."""
    convert(bank.bundle.folder, tmp_path / "out", target)


def test_wrong_tokens_are_found_however_small_the_logits_are(
    base: Path, export: Export, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """All logits differ by less than the absolute tolerance; a score has no label that could differ."""
    run = mixture(tmp_path / "score", base, task="regression")
    card, tensors = read_card(run), load_file(run / WEIGHTS)
    for name in tensors:
        tensors[name] *= 1e-4 if "classifier" in name else 1
    save_file(tensors, run / WEIGHTS)
    write_card(run, card)
    (report,) = export("merged", run).values()
    assert report.passed and 1e-6 < report.spread < 1e-4
    right = classification.logits
    monkeypatch.setattr(classification, "logits", lambda checkpoint, rows: right(checkpoint, rows)[::-1])
    with pytest.raises(ParityError, match=r"logits differ by up to \S+e-0[5-9] \(tolerance 1e-06\)"):
        export("merged", run, out="wrong", again=True)
