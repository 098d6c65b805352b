import json
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest

from serve.bundle.checked_json import read_sealed, write_sealed
from serve.bundle.reader import open_bundle, with_adapters
from serve.bundle.writer import seal_bundle, whole_folder
from serve.classification.classifier import Classifier
from serve.errors import BundleError
from tests.fixtures.hub_cache import pull
from tests.serve.conftest import Reference, write_adapter, write_bundle

ROOT = Path(__file__).parents[2]


def test_a_bundle_opens(bundle_folder: Path) -> None:
    bundle = open_bundle(bundle_folder)
    assert list(bundle.adapters) == ["tone", "intent"]
    assert bundle.adapters["intent"].card.labels == ["billing", "delivery", "other"]


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


@pytest.mark.parametrize("name", ["../secret", "/etc/hostname", "adapters/../../secret"])
def test_no_path_leaves_the_bundle(bundle_folder: Path, name: str) -> None:
    (bundle_folder.parent / "secret").write_text("secret")
    content = read_sealed(bundle_folder / "bundle.json")
    content["files"][name] = "0" * 64
    write_sealed(bundle_folder / "bundle.json", content)
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


@pytest.mark.parametrize("name", ["README.md", ".gitattributes"])
def test_what_the_hub_and_people_change_is_not_sealed(name: str, bundle_folder: Path) -> None:
    (bundle_folder / name).write_text("before")
    seal_bundle(bundle_folder, open_bundle(bundle_folder).manifest)
    (bundle_folder / name).write_text("after")
    assert name not in open_bundle(bundle_folder).manifest.files


def test_another_format_version_is_refused(bundle_folder: Path) -> None:
    content = read_sealed(bundle_folder / "bundle.json")
    write_sealed(bundle_folder / "bundle.json", {**content, "format_version": 99})
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


def test_a_folder_that_appears_during_an_export_is_kept(tmp_path: Path) -> None:
    with pytest.raises(BundleError, match="come to exist meanwhile"), whole_folder(tmp_path / "out"):
        (tmp_path / "out").mkdir()
        (tmp_path / "out" / "precious").write_text("")
    assert [str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*")] == ["out", "out/precious"]


def test_sealing_again_changes_only_what_changed(bundle_folder: Path) -> None:
    before = json.loads((bundle_folder / "bundle.json").read_text())
    seal_bundle(bundle_folder, open_bundle(bundle_folder).manifest)
    assert json.loads((bundle_folder / "bundle.json").read_text()) == before


def test_a_failed_export_leaves_nothing(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError), whole_folder(tmp_path / "out") as folder:
        (folder / "model.onnx").write_text("half")
        raise RuntimeError
    assert list(tmp_path.iterdir()) == []


def test_an_existing_folder_is_kept_unless_forced(tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "bundle.json").write_text("")
    with pytest.raises(BundleError, match="exists"), whole_folder(tmp_path / "out"):
        pass
    with pytest.raises(RuntimeError), whole_folder(tmp_path / "out", force=True):
        raise RuntimeError
    assert (tmp_path / "out" / "bundle.json").exists()
    with whole_folder(tmp_path / "out", force=True) as folder:
        (folder / "new").write_text("")
    assert [file.name for file in (tmp_path / "out").iterdir()] == ["new"]


WRITER = """
import shutil, sys
from pathlib import Path
from serve.bundle import whole_folder

bundle, target = map(Path, sys.argv[1:])
print("begun", flush=True)
while True:
    with whole_folder(target, force=True) as folder:
        shutil.copytree(bundle, folder, dirs_exist_ok=True)
"""


def test_a_bundle_is_whole_or_absent_whenever_its_writer_is_killed(bundle_folder: Path, tmp_path: Path) -> None:
    """A writer that does nothing but replace a bundle, killed at moments of its choosing."""
    seen = set()
    for moment in range(12):
        target = tmp_path / str(moment) / "out"
        command = [sys.executable, "-c", WRITER, str(bundle_folder), str(target)]
        with subprocess.Popen(command, stdout=subprocess.PIPE, cwd=ROOT) as writer:
            writer.stdout.readline()
            time.sleep(0.0007 * moment**2)
            writer.kill()
        if target.exists():
            assert list(open_bundle(target).adapters) == ["tone", "intent"]
        seen.add(target.exists())
    assert True in seen, "no bundle was ever whole: the moments are too early"


def test_what_is_not_a_bundle_is_not_replaced_by_force(tmp_path: Path) -> None:
    (tmp_path / "home").mkdir()
    (tmp_path / "home" / "precious").write_text("")
    (tmp_path / "file").write_text("")
    for name in ("home", "file"):
        with (
            pytest.raises(BundleError, match="neither empty nor what would be written"),
            whole_folder(tmp_path / name, force=True),
        ):
            pass
    assert (tmp_path / "home" / "precious").exists()
