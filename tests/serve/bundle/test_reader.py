import shutil
from pathlib import Path

import pytest

from serve.bundle.checked_json import read_checked_json, write_checked_json
from serve.bundle.reader import open_bundle, with_adapters
from serve.bundle.writer import write_manifest
from serve.classification.classifier import Classifier
from serve.errors import BundleError
from tests.fixtures.hub_cache import pull
from tests.serve.conftest import Reference, write_adapter, write_bundle


def test_a_bundle_opens(bundle_folder: Path) -> None:
    bundle = open_bundle(bundle_folder)
    assert list(bundle.adapters) == ["tone", "intent"]
    assert bundle.adapters["intent"].card.labels == ["billing", "delivery", "other"]


def test_a_packed_graph_is_found_and_has_the_hashes_of_the_weights_that_it_shares(bundle_folder: Path) -> None:
    before = open_bundle(bundle_folder)
    assert before.packed is None
    (bundle_folder / "packed.onnx").write_bytes(b"graph")
    (bundle_folder / "model.onnx.data").write_bytes(b"weights")
    write_manifest(bundle_folder, before.manifest)
    bundle = open_bundle(bundle_folder)
    files = bundle.manifest.files
    assert bundle.packed == bundle_folder / "packed.onnx"
    assert sorted(bundle.hashes(bundle.packed)) == sorted([files["packed.onnx"], files["model.onnx.data"]])
    assert sorted(bundle.hashes(bundle.model)) == sorted([files["model.onnx"], files["model.onnx.data"]])


def test_one_flipped_byte_in_any_file_is_refused(bundle_folder: Path) -> None:
    files = [file for file in bundle_folder.rglob("*") if file.is_file()]
    assert len(files) == 7
    for file in files:
        whole = file.read_bytes()
        file.write_bytes(whole[: len(whole) // 2] + bytes([whole[len(whole) // 2] ^ 4]) + whole[len(whole) // 2 + 1 :])
        with pytest.raises(BundleError, match=file.name):
            open_bundle(bundle_folder)
        file.write_bytes(whole)
    open_bundle(bundle_folder)


def test_a_missing_file_is_named(bundle_folder: Path) -> None:
    (bundle_folder / "tokenizer.json").unlink()
    with pytest.raises(BundleError, match=r"incomplete: tokenizer\.json is missing"):
        open_bundle(bundle_folder)


def test_a_folder_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(BundleError, match="there is no bundle folder"):
        open_bundle(tmp_path / "nowhere")
    with pytest.raises(BundleError, match="cannot be read: File name too long"):
        open_bundle(tmp_path / ("n" * 300))


@pytest.mark.parametrize("name", ["../secret", "/etc/hostname", "adapters/../../secret"])
def test_no_path_leaves_the_bundle(bundle_folder: Path, name: str) -> None:
    (bundle_folder.parent / "secret").write_text("secret")
    content = read_checked_json(bundle_folder / "bundle.json")
    content["files"][name] = "0" * 64
    write_checked_json(bundle_folder / "bundle.json", content)
    with pytest.raises(BundleError, match="leaves the bundle"):
        open_bundle(bundle_folder)


def test_no_link_leaves_the_bundle(bundle_folder: Path) -> None:
    outside = bundle_folder.parent / "tokenizer.json"
    shutil.move(bundle_folder / "tokenizer.json", outside)
    (bundle_folder / "tokenizer.json").symlink_to(outside)
    with pytest.raises(BundleError, match="leaves the bundle"):
        open_bundle(bundle_folder)


@pytest.mark.parametrize("shared", [False, True])
def test_a_bundle_opens_and_answers_in_the_cache_of_the_hub(
    shared: bool, bundle_folder: Path, tmp_path: Path, reference: Reference
) -> None:
    snapshot = pull(bundle_folder, tmp_path / "cache", shared=shared)
    assert (snapshot / "model.onnx").is_symlink()
    (answer,) = Classifier(snapshot, provider="cpu", threads=1)("good", adapter="tone")
    assert answer.logits.tolist() == pytest.approx(reference.logits([1, 4, 2], "tone").tolist(), abs=1e-5)


def test_no_link_leaves_the_cache_of_the_hub(bundle_folder: Path, tmp_path: Path) -> None:
    snapshot = pull(bundle_folder, tmp_path / "cache")
    (snapshot / "tokenizer.json").unlink()
    (snapshot / "tokenizer.json").symlink_to(bundle_folder / "tokenizer.json")
    with pytest.raises(BundleError, match="leaves the bundle"):
        open_bundle(snapshot)


def test_another_format_version_is_refused(bundle_folder: Path) -> None:
    content = read_checked_json(bundle_folder / "bundle.json")
    write_checked_json(bundle_folder / "bundle.json", {**content, "format_version": 99})
    with pytest.raises(BundleError, match="format 99; this version reads 1"):
        open_bundle(bundle_folder)


def test_an_adapter_of_another_base_is_refused(tmp_path: Path, reference: Reference) -> None:
    base = {"name": "other", "sha256": "f" * 64, "model_type": "tiny"}
    folder = write_bundle(tmp_path / "bundle", reference, ["tone"], base=base)
    with pytest.raises(BundleError, match="was trained on a base with sha256 000000000000"):
        open_bundle(folder)


def test_a_standalone_adapter_joins_a_bank(tmp_path: Path, reference: Reference) -> None:
    folder = write_bundle(tmp_path / "bundle", reference, ["tone"])
    write_adapter(tmp_path / "intent", reference, "intent")
    joined = with_adapters(open_bundle(folder), [tmp_path / "intent"])
    assert list(joined.adapters) == ["tone", "intent"]
    with pytest.raises(BundleError, match="two adapters called tone"):
        with_adapters(joined, [folder / "adapters" / "tone"])


def test_a_standalone_adapter_of_another_base_is_refused(tmp_path: Path, reference: Reference) -> None:
    folder = write_bundle(tmp_path / "bundle", reference, ["tone"])
    write_adapter(tmp_path / "intent", reference, "intent", base_sha256="f" * 64)
    with pytest.raises(BundleError, match="was trained on a base"):
        with_adapters(open_bundle(folder), [tmp_path / "intent"])


def test_a_standalone_adapter_of_another_tokenizer_is_refused(tmp_path: Path, reference: Reference) -> None:
    folder = write_bundle(tmp_path / "bundle", reference, ["tone"])
    write_adapter(tmp_path / "intent", reference, "intent", tokenizer_sha256="f" * 64)
    with pytest.raises(BundleError, match="was trained with another tokenizer"):
        with_adapters(open_bundle(folder), [tmp_path / "intent"])


def test_an_adapter_that_reads_more_than_the_base_has_positions_for_is_refused(
    tmp_path: Path, reference: Reference
) -> None:
    folder = write_bundle(tmp_path / "bundle", reference, ["tone"], max_positions=8)
    write_adapter(tmp_path / "intent", reference, "intent", max_length=9)
    message = "adapter intent has a max_length of 9, and the base has positions for 8 tokens"
    with pytest.raises(BundleError, match=message):
        with_adapters(open_bundle(folder), [tmp_path / "intent"])
    with pytest.raises(BundleError, match=message):
        Classifier(folder, provider="cpu", threads=1).load(tmp_path / "intent")
    without = write_bundle(tmp_path / "earlier", reference, ["tone"])
    assert "intent" in with_adapters(open_bundle(without), [tmp_path / "intent"]).adapters
