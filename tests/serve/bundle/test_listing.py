from pathlib import Path

import pytest

from serve.bundle.listing import check_listing
from serve.bundle.reader import open_bundle
from serve.errors import BundleError
from tests.fixtures.hub_cache import pull


@pytest.mark.parametrize("name", ["weights.bin", "adapters/tone/other.safetensors", "adapters/.hidden", "a/b/c"])
def test_a_file_that_the_manifest_does_not_list_is_refused(name: str, bundle_folder: Path) -> None:
    (bundle_folder / name).parent.mkdir(parents=True, exist_ok=True)
    (bundle_folder / name).write_text("")
    with pytest.raises(BundleError, match=rf"has the file '{name}', which its manifest does not list: remove it"):
        open_bundle(bundle_folder)


@pytest.mark.parametrize(
    "name", ["README.md", "README_de.md", "LICENSE", "LICENSE.txt", ".gitattributes", ".git/HEAD", ".cache/a/b"]
)
def test_what_people_and_the_hub_add_is_not_read(name: str, bundle_folder: Path) -> None:
    (bundle_folder / name).parent.mkdir(parents=True, exist_ok=True)
    (bundle_folder / name).write_text("")
    open_bundle(bundle_folder)


def test_a_folder_without_files_is_nothing(bundle_folder: Path) -> None:
    (bundle_folder / "empty" / "within").mkdir(parents=True)
    open_bundle(bundle_folder)


def test_a_link_to_a_folder_is_refused(bundle_folder: Path) -> None:
    (bundle_folder / "more").symlink_to(bundle_folder.parent)
    with pytest.raises(BundleError, match="has the file 'more', which its manifest does not list"):
        open_bundle(bundle_folder)


def test_links_of_the_hub_are_as_good_as_files(bundle_folder: Path, tmp_path: Path) -> None:
    snapshot = pull(bundle_folder, tmp_path / "cache")
    (snapshot / "more.bin").symlink_to(bundle_folder / "model.onnx")
    with pytest.raises(BundleError, match=r"has the file 'more\.bin'"):
        open_bundle(snapshot)


def test_a_folder_that_cannot_be_read_is_named(bundle_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def scandir(path: str) -> None:
        raise PermissionError(13, "Permission denied", path)

    monkeypatch.setattr("os.scandir", scandir)
    with pytest.raises(BundleError, match=rf"{bundle_folder} cannot be read: Permission denied"):
        check_listing(bundle_folder, [])
