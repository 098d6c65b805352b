import json
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import numpy as np
import onnx
import peft
import pytest
import torch
from safetensors.torch import load_file
from transformers import AutoTokenizer

from adamix_export.checkpoint.collapse import AdapterTensors, collapse_checkpoint
from adamix_train.artifacts.checkpoint import read_card
from adamix_train.base_model.load import load_classifier
from adamix_train.data.examples import Example, read_examples
from adamix_train.peft_method import AdaMixConfig
from adamix_train.tasks.table import TASKS
from demos.server import running_server
from serve.adapters.bank import Bank
from serve.bundle.adapter import Adapter
from serve.bundle.reader import open_bundle
from serve.classification.classifier import Classifier
from serve.engine import Prediction

pytestmark = [pytest.mark.slow, pytest.mark.timeout(2400)]
FLOOR = 0.785
"""Dev accuracy that this budget must pass; it reaches 0.796.

Measured below the floor: zero adapters under the trained head (0.615), projections that do not belong together (0.649),
a mixture of which routing trained one module only (0.697), sums in the place of means (0.773). What the floor cannot
tell, because it costs little in accuracy (as the first module alone would), the comparisons of logits tell.
"""


@pytest.fixture(scope="module")
def dev(sst2: Path) -> list[Example]:
    return read_examples(sst2 / "dev.tsv", TASKS["sst2"])


@pytest.fixture(scope="module")
def bank(bundles: Path) -> Classifier:
    return Classifier(bundles / "bank", provider="cpu")


@pytest.fixture(scope="module")
def server(bundles: Path) -> Iterator[httpx.Client]:
    with running_server(bundles / "bank") as address, httpx.Client(base_url=address, timeout=60) as client:
        yield client


@pytest.fixture(scope="module")
def answers(bank: Classifier, dev: list[Example]) -> list[Prediction]:
    """Answers of the bank to the whole dev file."""
    return bank([example.texts[0] for example in dev], adapter="houlsby")


def accuracy(labels: list[str], dev: list[Example]) -> float:
    return float(np.mean([label == example.target for label, example in zip(labels, dev, strict=True)]))


def test_the_whole_dev_file_is_served_above_the_floor(answers: list[Prediction], dev: list[Example]) -> None:
    assert accuracy([answer.label for answer in answers], dev) > FLOOR


def test_onnx_and_pytorch_give_equal_labels(
    houlsby: Path, base: Path, answers: list[Prediction], dev: list[Example]
) -> None:
    model = peft.PeftModel.from_pretrained(load_classifier(base, ["negative", "positive"]), houlsby).eval()
    tokenizer = AutoTokenizer.from_pretrained(houlsby)
    texts = [example.texts[0] for example in dev]
    logits = []
    with torch.inference_mode():
        for start in range(0, len(texts), 64):
            batch = tokenizer(
                texts[start : start + 64], padding=True, truncation=True, max_length=64, return_tensors="pt"
            )
            logits.append(model(**batch).logits.numpy())
    expected = np.concatenate(logits)
    found = np.stack([answer.logits for answer in answers])
    assert (found.argmax(-1) == expected.argmax(-1)).all()
    np.testing.assert_allclose(found, expected, atol=1e-4)


def test_the_metric_of_training_is_the_metric_of_the_export(houlsby: Path, bundles: Path) -> None:
    parity = open_bundle(bundles / "houlsby").manifest.parity["houlsby"]
    assert parity["onnx"] == parity["pytorch"] == pytest.approx(read_card(houlsby).metrics["accuracy"])
    assert parity["rows"] > 872


@pytest.mark.parametrize("name", ["houlsby", "lora"])
def test_a_bank_answers_exactly_as_the_merged_export(
    name: str, bank: Classifier, bundles: Path, dev: list[Example]
) -> None:
    texts = [example.texts[0] for example in dev[:200]]
    other = {"houlsby": "lora", "lora": "houlsby"}[name]
    mixed = bank([text for text in texts for _ in range(2)], adapter=[name, other] * len(texts))[::2]
    merged = Classifier(bundles / name, provider="cpu")(texts)
    assert [answer.label for answer in mixed] == [answer.label for answer in merged]
    np.testing.assert_allclose(
        np.stack([answer.logits for answer in mixed]), np.stack([answer.logits for answer in merged]), atol=1e-4
    )


def test_the_server_answers_mixed_rows_as_the_engine_does(
    server: httpx.Client, bank: Classifier, dev: list[Example]
) -> None:
    texts = [example.texts[0] for example in dev[:64]]
    names = ["houlsby", "lora"] * 32
    response = server.post("/predict", json={"inputs": [[text] for text in texts], "adapter": names})
    assert response.headers["x-adapter"].split(",") == ["houlsby", "lora"]
    labels = [scores[0]["label"] for scores in response.json()]
    assert labels == [answer.label for answer in bank(texts, adapter=names)]


def broken_adapters(houlsby: Path) -> dict[str, AdapterTensors]:
    """The adapter as broken code would have made it."""
    tensors = load_file(houlsby / "adapter_model.safetensors")
    config = AdaMixConfig.from_pretrained(str(houlsby))
    torch.manual_seed(0)

    def one_module_trained(name: str, weight: torch.Tensor) -> torch.Tensor:
        fresh = 0.02 * torch.randn_like(weight) if name.endswith("weight") else torch.zeros_like(weight)
        return torch.cat([weight[:1], fresh[1:]])

    def changed(change: Callable[[str, torch.Tensor], torch.Tensor]) -> AdapterTensors:
        sites = {name for name in tensors if ".adamix_modules." in name and not name.endswith(".scores")}
        weights = {name: change(name, weight) if name in sites else weight for name, weight in tensors.items()}
        return collapse_checkpoint(weights, config)

    return {
        "zero": changed(lambda _, weight: torch.zeros_like(weight)),
        "sums": changed(lambda _, weight: len(weight) * weight),
        "scrambled": changed(lambda name, weight: weight.flip(1) if ".down." in name else weight),
        "one module trained": changed(one_module_trained),
        "whole": collapse_checkpoint(tensors, config),
    }


def test_the_floor_tells_broken_code(houlsby: Path, bundles: Path, dev: list[Example]) -> None:
    bundle = open_bundle(bundles / "houlsby")
    card = bundle.adapters["houlsby"].card
    bank = Classifier(bundles / "bank", provider="cpu")
    texts = [example.texts[0] for example in dev]
    found = {}
    for name, weights in broken_adapters(houlsby).items():
        adapter = Adapter(card, {key: weight.numpy() for key, weight in weights.items()})
        bank.runner.bank = Bank(bank.bundle.manifest.inputs, [adapter])
        found[name] = accuracy([answer.label for answer in bank(texts, adapter="houlsby")], dev)
    assert found.pop("whole") > FLOOR
    assert all(value < FLOOR for value in found.values()), found


def test_a_mixture_ships_what_one_adapter_ships(
    houlsby: Path, bundles: Path, base: Path, sst2: Path, few: Path, tmp_path: Path
) -> None:
    from tests.integration.sst2.conftest import run, trained

    plain = trained(tmp_path / "plain", base, sst2, few, "--num-modules", "1", "--train-limit", "64", "--epochs", "1")
    run("adamix-export", plain, tmp_path / "out", "--parity-rows", "50")
    graphs = [
        onnx.load(folder / "model.onnx", load_external_data=False).graph
        for folder in (bundles / "houlsby", tmp_path / "out")
    ]
    assert len(graphs[0].node) == len(graphs[1].node)
    cards = [next(iter(open_bundle(folder).adapters.values())) for folder in (bundles / "houlsby", tmp_path / "out")]
    assert [card.card.num_modules for card in cards] == [4, 1]
    sizes = [sum(tensor.size for tensor in card.tensors.values()) for card in cards]
    assert sizes[0] == sizes[1]
    trained_parameters = [
        json.loads((run / "results.json").read_text())["trained_parameters"] for run in (houlsby, plain)
    ]
    assert trained_parameters[0] > trained_parameters[1]
