from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from adamix_export.checkpoint.checkpoint import Checkpoint, open_checkpoint
from adamix_export.checkpoint.members import with_members
from adamix_export.errors import ExportError, ParityError
from adamix_export.parity.bounds import Check
from adamix_export.pipeline.export import EXPORTS
from adamix_export.pipeline.options import Options
from adamix_train.mixture.projection import MixtureLinear
from serve.bundle.reader import open_bundle
from serve.classification.classifier import Classifier
from serve.errors import BundleError
from serve.generation.generator import Generator
from tests.adamix_train.conftest import NEGATIVE, POSITIVE, make_writer
from tests.fixtures.generation_banks import generative_checkpoint
from tests.fixtures.random_checkpoints import make_encoder, mixture

TEXTS = ["the parcel was lovely", "bad", "a shop was great great great"]


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_encoder(tmp_path_factory.mktemp("base") / "bert", "bert")


@pytest.fixture(scope="module")
def tone(base: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return mixture(tmp_path_factory.mktemp("runs") / "tone", base, kind="houlsby")


def along_a_route(source: Checkpoint, module: int) -> NDArray[np.float32]:
    """Logits (texts, labels) of one module in PyTorch, chosen as a step of training chooses it."""
    model = source.reference
    for found in model.modules():
        if isinstance(found, MixtureLinear):
            found.train()
            found.route = (module % found.num_modules,)
    with torch.inference_mode():
        inputs = source.tokenizer(TEXTS, padding=True, return_tensors="pt")
        logits: NDArray[np.float32] = model(**inputs).logits.numpy()
    source.forget_reference()
    return logits


def export(*sources: Checkpoint, out: Path, shape: str = "bank", **options: bool) -> None:
    EXPORTS[shape](sources, out, Options(keep_modules=True, **options), lambda stage: None)


def test_a_member_is_its_checkpoint_with_all_weight_on_one_module(tone: Path) -> None:
    source = open_checkpoint(str(tone))
    mean, *members = with_members([source])
    assert mean is source
    assert [member.name for member in members] == ["tone.0", "tone.1", "tone.2"]
    assert [member.weights for member in members] == [(1, 0, 0), (0, 1, 0), (0, 0, 1)]
    assert {member.member_of for member in members} == {"tone"}


@pytest.mark.slow
@pytest.mark.parametrize(("kind", "share"), [("houlsby", "up"), ("lora", "none")])
def test_a_bank_gives_what_each_module_gives_in_pytorch(kind: str, share: str, base: Path, tmp_path: Path) -> None:
    source = open_checkpoint(str(mixture(tmp_path / "tone", base, kind=kind, share=share)))
    export(source, out=tmp_path / "bank")
    classifier = Classifier(tmp_path / "bank", provider="cpu")
    logits = [along_a_route(source, module) for module in range(3)]
    for module, expected in enumerate(logits):
        found = np.stack([one.logits for one in classifier(TEXTS, adapter=f"tone.{module}")])
        np.testing.assert_allclose(found, expected, atol=1e-4)
    assert np.abs(logits[0] - logits[1]).max() > 0.1
    powers = np.exp(np.stack(logits, 1))
    probabilities = powers / powers.sum(-1, keepdims=True)
    for row, prediction in zip(probabilities, classifier(TEXTS, adapter="tone", members=True), strict=True):
        np.testing.assert_allclose(prediction.members, row, atol=1e-4)


@pytest.mark.slow
def test_the_report_has_the_metric_of_the_ensemble_and_the_card_the_distances_of_its_modules(
    base: Path, tmp_path: Path
) -> None:
    labels = ["negative", "positive"]
    texts = [
        f"{start} {word}" for start in ("the shop was", "my parcel is", "it was a") for word in POSITIVE + NEGATIVE
    ]
    targets = [number % 2 for number in range(len(texts))]
    data = tmp_path / "data.csv"
    rows = [f"{text},{labels[target]}" for text, target in zip(texts, targets, strict=True)]
    data.write_text("\n".join(["text,label", *rows]) + "\n")
    run = mixture(tmp_path / "tone", base, kind="houlsby", test_file=str(data), train_file=str(data))
    export(open_checkpoint(str(run)), out=tmp_path / "bank")
    bundle = open_bundle(tmp_path / "bank")
    found = Classifier(bundle, provider="cpu")(texts, adapter="tone", members=True)
    right = [one.ensemble.argmax() == target for one, target in zip(found, targets, strict=True)]
    assert bundle.manifest.parity["tone"]["ensemble"] == pytest.approx(np.mean(right))
    assert bundle.manifest.parity["tone.0"]["ensemble"] is None
    assert len(bundle.adapters["tone"].card.module_distances) == 3
    assert min(bundle.adapters["tone"].card.module_distances) > 0
    assert "module_distances" not in (tmp_path / "bank" / "adapters" / "tone.0" / "adapter.json").read_text()


@pytest.mark.slow
def test_cards_and_manifest_tell_members_from_means(base: Path, tone: Path, tmp_path: Path) -> None:
    intent = mixture(tmp_path / "intent", base, kind="lora", num_modules=2, labels=("a", "b", "c"))
    export(open_checkpoint(str(tone)), open_checkpoint(str(intent)), out=tmp_path / "bank")
    bundle = open_bundle(tmp_path / "bank")
    assert bundle.manifest.adapters == ["tone", "tone.0", "tone.1", "tone.2", "intent", "intent.0", "intent.1"]
    parents = {name: adapter.card.member_of for name, adapter in bundle.adapters.items()}
    assert parents == {name: name.partition(".")[0] if "." in name else "" for name in bundle.manifest.adapters}
    assert bundle.adapters["tone.1"].card.shares == [0, 1, 0]
    assert set(bundle.manifest.parity) == set(bundle.manifest.adapters)
    card = (tmp_path / "bank" / "README.md").read_text()
    assert "# tone and intent on bert\n" in card
    assert "| tone.2 | houlsby | 4 | 1 of 3 |" in card


@pytest.mark.parametrize("shape", ["merged", "adapter"])
def test_modules_are_kept_in_a_bank_alone(shape: str, tone: Path, tmp_path: Path) -> None:
    with pytest.raises(ExportError, match=f"shape {shape} holds one adapter: .* in a bank, --shape bank"):
        export(open_checkpoint(str(tone)), out=tmp_path / "out", shape=shape)
    assert not (tmp_path / "out").exists()


def test_what_has_no_modules_to_keep_is_refused(tone: Path, base: Path, tmp_path: Path) -> None:
    single = open_checkpoint(str(mixture(tmp_path / "single", base, num_modules=1)))
    with pytest.raises(ExportError, match="single has one module, which is its adapter: leave out --keep-modules"):
        with_members([single])
    fixed = open_checkpoint(str(tone))
    fixed.card.recipe["routing"] = "fixed"
    with pytest.raises(ExportError, match=r"tone was trained on a fixed route, .*: leave out --keep-modules"):
        with_members([fixed])


def test_a_name_without_room_for_numbers_is_refused(tone: Path, tmp_path: Path) -> None:
    source = open_checkpoint(str(tone))
    assert len(with_members([replace(source, name="a" * 62)])) == 4
    with pytest.raises(ExportError, match=r"a name of 65 characters, a+\.2; at most 64 are possible: give a shorter"):
        with_members([replace(source, name="a" * 63)])


def test_a_checkpoint_with_the_name_of_a_member_is_refused(tone: Path, tmp_path: Path) -> None:
    source = open_checkpoint(str(tone))
    with pytest.raises(ExportError, match=r"two checkpoints are called tone\.1: name them, NAME=FOLDER"):
        export(source, replace(source, name="tone.1"), out=tmp_path / "out")


@pytest.mark.slow
def test_the_modules_of_a_generator_are_adapters_by_name(writing_data: Path, tmp_path: Path) -> None:
    """The export has compared each of them with PyTorch."""
    run = generative_checkpoint(tmp_path / "e2e", make_writer(tmp_path / "base", "llama"), writing_data, kind="lora")
    sources = [open_checkpoint(str(run))]
    EXPORTS["bank"](sources, tmp_path / "bank", Options(keep_modules=True, check=Check(limit=4)), lambda stage: None)
    generate = Generator(tmp_path / "bank", provider="cpu")
    names = ["e2e", "e2e.0", "e2e.1", "e2e.2"]
    assert [one.adapter for one in generate(["the parcel"] * 4, adapter=names)] == names
    assert generate(["the parcel"])[0].adapter == "e2e"


@pytest.mark.slow
def test_a_member_that_is_not_its_module_is_caught(tone: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """PyTorch runs the mean in a member's place: canaries or parity must see it."""
    monkeypatch.setattr("adamix_export.checkpoint.importers.mixture.set_weights", lambda *_: None)
    with pytest.raises((ParityError, BundleError), match=r"tone\.0.*PyTorch"):
        export(open_checkpoint(str(tone)), out=tmp_path / "out")
    assert not (tmp_path / "out").exists()
