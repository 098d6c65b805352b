import json
import subprocess
import sys
import time
from pathlib import Path

import pytest

from serve.bundle.reader import open_bundle
from serve.bundle.writer import atomic_folder, write_manifest
from serve.errors import BundleError

ROOT = Path(__file__).parents[3]
WRITER = """
import shutil, sys
from pathlib import Path
from serve.bundle.writer import atomic_folder

bundle, target = map(Path, sys.argv[1:])
print("begun", flush=True)
while True:
    with atomic_folder(target, force=True) as folder:
        shutil.copytree(bundle, folder, dirs_exist_ok=True)
"""


def test_a_folder_that_appears_during_an_export_is_kept(tmp_path: Path) -> None:
    with pytest.raises(BundleError, match="was created meanwhile"), atomic_folder(tmp_path / "out"):
        (tmp_path / "out").mkdir()
        (tmp_path / "out" / "precious").write_text("")
    assert [str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*")] == ["out", "out/precious"]


def test_writing_a_manifest_again_changes_only_what_changed(bundle_folder: Path) -> None:
    before = json.loads((bundle_folder / "bundle.json").read_text())
    write_manifest(bundle_folder, open_bundle(bundle_folder).manifest)
    assert json.loads((bundle_folder / "bundle.json").read_text()) == before


def test_a_failed_export_leaves_nothing(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError), atomic_folder(tmp_path / "out") as folder:
        (folder / "model.onnx").write_text("half")
        raise RuntimeError
    assert list(tmp_path.iterdir()) == []


def test_an_existing_folder_is_kept_unless_forced(tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "bundle.json").write_text("")
    with pytest.raises(BundleError, match="exists"), atomic_folder(tmp_path / "out"):
        pass
    with pytest.raises(RuntimeError), atomic_folder(tmp_path / "out", force=True):
        raise RuntimeError
    assert (tmp_path / "out" / "bundle.json").exists()
    with atomic_folder(tmp_path / "out", force=True) as folder:
        (folder / "new").write_text("")
    assert [file.name for file in (tmp_path / "out").iterdir()] == ["new"]


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
            pytest.raises(BundleError, match="neither empty nor has bundle"),
            atomic_folder(tmp_path / name, force=True),
        ):
            pass
    assert (tmp_path / "home" / "precious").exists()


@pytest.mark.parametrize("name", ["README.md", ".gitattributes"])
def test_what_the_hub_and_people_change_is_not_hashed(name: str, bundle_folder: Path) -> None:
    (bundle_folder / name).write_text("before")
    write_manifest(bundle_folder, open_bundle(bundle_folder).manifest)
    (bundle_folder / name).write_text("after")
    assert name not in open_bundle(bundle_folder).manifest.files
