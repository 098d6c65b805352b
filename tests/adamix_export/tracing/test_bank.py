"""A bank of any adapters: kinds, ranks, heads and slots as they come, each row against PyTorch."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from transformers import AutoModelForSequenceClassification

from adamix_export.checkpoint.checkpoint import open_checkpoint
from adamix_export.checkpoint.collapse import AdapterTensors
from adamix_export.pipeline.export import export_bank
from adamix_export.pipeline.options import Options
from adamix_export.tracing.merged import by_site, merge, weights_to
from serve.bundle.adapter import Adapter, AdapterCard
from serve.bundle.reader import Bundle, open_bundle
from serve.classification.classifier import Classifier
from tests.adamix_export.conftest import Export
from tests.fixtures.random_checkpoints import make_encoder, mixture

pytestmark = pytest.mark.slow

TEXTS = ["good", "the parcel was bad", "my shop is great it was a fine shop"]

WIDTHS = st.fixed_dictionaries(
    {
        "kind": st.sampled_from(["houlsby", "lora", "pfeiffer", None]),
        "r": st.integers(1, 20),
        "labels": st.sampled_from([1, 2, 3, 16, 77]),
        "seed": st.integers(0, 1 << 16),
    }
)


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_encoder(tmp_path_factory.mktemp("base"), "distilbert")


@pytest.fixture(scope="module")
def bank(base: Path, tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    """Every kind once, on both sides of the feed-forward layer or in attention."""
    folder = tmp_path_factory.mktemp("runs")
    kinds = {"houlsby": "attention,feed_forward", "lora": "query_value,feed_forward", "pfeiffer": "feed_forward"}
    runs = [mixture(folder / kind, base, kind=kind, sites=sites) for kind, sites in kinds.items()]
    export_bank([open_checkpoint(str(run)) for run in runs], folder / "out", Options(slots=2), lambda stage: None)
    return open_bundle(folder / "out")


def random_adapter(like: Bundle, name: str, shape: dict[str, object]) -> tuple[AdapterTensors, int]:
    """AdapterTensors with the given kind (None: the base itself), rank and number of labels; and that number."""
    kind, r, labels = shape["kind"], shape["r"], shape["labels"]
    weights: AdapterTensors = {}
    torch.manual_seed(shape["seed"])
    for tensor_name, tensor in like.adapters[kind or "lora"].tensors.items():
        sizes = list(tensor.shape)
        if ".head." not in tensor_name:
            if kind is None:
                continue
            if ".down." in tensor_name:
                sizes[0] = r
            elif tensor.ndim == 2:
                sizes[1] = r
        elif tensor_name.startswith("classifier."):
            sizes[0] = labels
        weights[tensor_name] = torch.randn(sizes) * 0.3
    return weights, labels


def reference(base: Path, weights: AdapterTensors, labels: int, ids: list[list[int]]) -> np.ndarray:
    """Logits of the base with the adapter merged, by PyTorch, each row alone."""
    model = AutoModelForSequenceClassification.from_pretrained(base, num_labels=labels, dtype="float32").eval()
    merge(model.requires_grad_(False), weights)
    with torch.inference_mode():
        return np.stack([model(input_ids=torch.tensor([row])).logits[0].numpy() for row in ids])


def as_adapter(like: Bundle, name: str, weights: AdapterTensors, logits: np.ndarray, ids: list[list[int]]) -> Adapter:
    card: AdapterCard = replace(
        next(iter(like.adapters.values())).card,
        name=name,
        sha256=name,
        labels=[str(label) for label in range(logits.shape[1])],
        canary_ids=ids,
        canary_token_type_ids=[],
        canary_logits=logits.tolist(),
    )
    return Adapter(card, {key: tensor.numpy() for key, tensor in weights_to(weights, torch.float32).items()})


@pytest.mark.slow
@settings(max_examples=12, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(shapes=st.lists(WIDTHS, min_size=1, max_size=5), spare=st.integers(0, 3))
def test_any_adapters_answer_as_pytorch_from_one_batch(
    shapes: list[dict[str, object]], spare: int, bank: Bundle, base: Path
) -> None:
    """Kind None adapts nothing: its rows are the base's with a head of their own."""
    ids = [Classifier(bank, provider="cpu").encode(text, "lora", truncate=True).input_ids for text in TEXTS]
    adapters, expected = {}, {}
    for index, shape in enumerate(shapes):
        name = f"a{index}"
        weights, labels = random_adapter(bank, name, shape)
        expected[name] = reference(base, weights, labels, ids)
        adapters[name] = as_adapter(bank, name, weights, expected[name], ids)
    opened = replace(bank, adapters=adapters, manifest=replace(bank.manifest, spare_slots=spare))
    classifier = Classifier(opened, provider="cpu", threads=1)
    mixed = classifier([text for text in TEXTS for _ in adapters], adapter=list(adapters) * len(TEXTS))
    for offset, name in enumerate(adapters):
        found = np.stack([answer.logits for answer in mixed[offset :: len(adapters)]])
        np.testing.assert_allclose(found, expected[name], atol=1e-4)
    assert classifier.bank is not None
    assert {len(stack) for stack in classifier.bank.stacks.values()} == {1 + len(shapes) + spare}


@pytest.mark.slow
@pytest.mark.parametrize(("kind", "r"), [("houlsby", 2), ("lora", 13)])
def test_an_adapter_exported_by_itself_goes_into_a_spare_slot(
    kind: str, r: int, bank: Bundle, base: Path, export: Export, tmp_path: Path
) -> None:
    run = mixture(tmp_path / "later", base, kind=kind, r=r, labels=("a", "b", "c"), seed=7)
    export("adapter", run)
    classifier = Classifier(bank, provider="cpu")
    before = [answer.logits for answer in classifier(TEXTS, adapter="houlsby")]
    classifier.load(tmp_path / "out")
    found = classifier([*TEXTS, *TEXTS], adapter=["later"] * 3 + ["houlsby"] * 3)
    ids = [classifier.encode(text, "later", truncate=True).input_ids for text in TEXTS]
    expected = reference(base, open_checkpoint(str(run)).adapter, 3, ids)
    np.testing.assert_allclose([answer.logits for answer in found[:3]], expected, atol=1e-4)
    np.testing.assert_allclose([answer.logits for answer in found[3:]], before, atol=1e-4)


def test_a_bank_has_as_many_slots_as_it_was_asked_for(bank: Bundle) -> None:
    assert bank.manifest.spare_slots == 2
    classifier = Classifier(bank, provider="cpu")
    assert classifier.bank is not None
    assert {len(stack) for stack in classifier.bank.stacks.values()} == {1 + 3 + 2}


def test_every_kind_of_the_bank_is_there(bank: Bundle) -> None:
    kinds = {name: {kind for _, kind in by_site(adapter.tensors)} for name, adapter in bank.adapters.items()}
    assert kinds == {name: {name, "head"} for name in ("houlsby", "lora", "pfeiffer")}


@pytest.mark.slow
def test_a_head_may_have_as_many_labels_as_the_model_is_wide(base: Path, export: Export, tmp_path: Path) -> None:
    labels = tuple(f"label {index:02}" for index in range(16))
    first = mixture(tmp_path / "first", base, labels=labels)
    export("bank", first, mixture(tmp_path / "second", base, seed=1))
    bank = Classifier(tmp_path / "out", provider="cpu")
    ids = [bank.encode(text, "first", truncate=True).input_ids for text in TEXTS]
    expected = reference(base, open_checkpoint(str(first)).adapter, 16, ids)
    np.testing.assert_allclose([answer.logits for answer in bank(TEXTS, adapter="first")], expected, atol=1e-4)
    assert len(bank("good", adapter="second")[0].logits) == 2
