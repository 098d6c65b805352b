"""The bundle format's page is enough to write a reader: this one agrees with serve."""

import re
from pathlib import Path

import numpy as np
import pytest

import serve
from adamix_export.cli import main as adamix_export
from tests.adamix_train.conftest import make_writer
from tests.docs.blocks import ROOT
from tests.docs.bundle_reader import read_bundle
from tests.fixtures.random_checkpoints import mixture
from tests.fixtures.traced_graphs import traced_once

TEXTS = ["the parcel was good", "a shop was bad, the shop", "my parcel was late"]


def test_the_reader_knows_nothing_of_the_project() -> None:
    text = (ROOT / "tests/docs/bundle_reader.py").read_text("utf-8")
    imported = set(re.findall(r"^(?:from|import) (\w+)", text, re.MULTILINE))
    assert imported == {
        "dataclasses",
        "hashlib",
        "json",
        "numpy",
        "onnxruntime",
        "pathlib",
        "safetensors",
        "tokenizers",
        "typing",
    }


@pytest.mark.slow
def test_a_bank_of_classifiers_gives_the_same_labels_scores_and_canary_logits(workspace: Path) -> None:
    folder = workspace / "bundles/both"
    read, classifier = read_bundle(folder), serve.Classifier(folder, provider="cpu")
    names = ["tone", "topic", "tone"]
    for ours, theirs in zip(classifier(TEXTS, adapter=names), read.classify(TEXTS, names), strict=True):
        assert [*theirs] == [*ours.labels]
        np.testing.assert_allclose([*theirs.values()], ours.scores, atol=1e-5)
    for name, card in read.cards.items():
        np.testing.assert_allclose(read.canary_logits(name), card["canary_logits"], atol=1e-3)


@pytest.mark.slow
@pytest.mark.parametrize(
    "options", [["--shape", "merged"], ["--precision", "int8", "--tolerance", "10", "--max-metric-drop", "1"]]
)
def test_a_merged_bundle_gives_the_same_in_fp32_and_int8(
    options: list[str], workspace: Path, graphs: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "bundle"
    with traced_once(graphs):
        adamix_export([str(workspace / "runs/tone"), str(folder), *options])
    read, classifier = read_bundle(folder), serve.Classifier(folder, provider="cpu")
    assert not read.stacks
    for ours, theirs in zip(classifier(TEXTS), read.classify(TEXTS, ["tone"] * 3), strict=True):
        np.testing.assert_allclose([*theirs.values()], ours.scores, atol=1e-5)


@pytest.fixture(scope="module")
def t5(graphs: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A bank of an encoder-decoder."""
    place = tmp_path_factory.mktemp("t5")
    run = mixture(place / "e2e", make_writer(place / "base", "t5"), task="generation", kind="lora", max_new_tokens=8)
    with traced_once(graphs):
        adamix_export([str(run), str(place / "bundle"), "--shape", "bank"])
    return place / "bundle"


@pytest.mark.slow
@pytest.mark.parametrize("architecture", ["decoder", "encoder-decoder"])
def test_a_bank_that_generates_gives_the_same_text_and_canary_logits(
    architecture: str, workspace: Path, request: pytest.FixtureRequest
) -> None:
    folder = workspace / "bundles/e2e" if architecture == "decoder" else request.getfixturevalue("t5")
    read, generator = read_bundle(folder), serve.Generator(folder, provider="cpu")
    np.testing.assert_allclose(
        [one for row in read.canary_logits("e2e") for one in row],
        [one for row in read.cards["e2e"]["canary_logits"] for one in row],
        atol=1e-2,
    )
    (ours,) = generator("the parcel", adapter="e2e", sampling=serve.SamplingParams(max_new_tokens=6))
    assert read.generate("the parcel", "e2e", most=6).strip() == ours.text.strip()


@pytest.mark.slow
def test_a_changed_manifest_is_seen(workspace: Path, tmp_path: Path) -> None:
    import shutil

    folder = tmp_path / "bundle"
    shutil.copytree(workspace / "bundles/both", folder)
    manifest = folder / "bundle.json"
    manifest.write_text(manifest.read_text("utf-8").replace('"max_positions": 256', '"max_positions": 255'), "utf-8")
    with pytest.raises(AssertionError, match=re.escape("bundle.json")):
        read_bundle(folder)
