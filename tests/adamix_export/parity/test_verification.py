import sys
from dataclasses import replace
from pathlib import Path

import pytest
from safetensors.numpy import load_file, save_file

from adamix_export.errors import ExportError, ParityError
from adamix_export.parity.verification import verify
from serve.bundle.adapter import WEIGHTS, read_adapter, write_card
from serve.bundle.checked_json import file_sha256, read_checked_json, write_checked_json
from serve.bundle.manifest import MANIFEST
from serve.bundle.reader import open_bundle
from serve.errors import BundleError
from tests.adamix_export.conftest import Export, trained

pytestmark = pytest.mark.slow

VERIFY = [sys.executable, "-m", "adamix_export.cli", "verify"]


@pytest.fixture
def bank(export: Export, houlsby: Path, lora: Path, tmp_path: Path) -> Path:
    export("bank", f"tone={houlsby}", f"start={lora}", out="bank")
    return tmp_path / "bank"


def change_adapter(bank: Path, name: str) -> None:
    """Damage an adapter so that every hash holds."""
    folder = bank / "adapters" / name
    card = read_adapter(folder).card
    tensors = load_file(folder / WEIGHTS)
    save_file({key: 2 * tensor for key, tensor in tensors.items()}, folder / WEIGHTS)
    write_card(folder, replace(card, sha256=file_sha256(folder / WEIGHTS)))
    content = read_checked_json(bank / MANIFEST)
    for file in (folder / WEIGHTS, folder / "adapter.json"):
        content["files"][str(file.relative_to(bank))] = file_sha256(file)
    write_checked_json(bank / MANIFEST, content)


def test_a_bundle_as_it_was_written_is_whole_answers_and_agrees(bank: Path, houlsby: Path, lora: Path) -> None:
    verdict = verify(bank, [f"tone={houlsby}", f"start={lora}"])
    assert verdict.adapters == ["tone", "start"]
    assert verdict.files == len(open_bundle(bank).manifest.files) > 5
    assert [report.rows for report in verdict.parity.values()] == [52, 52]
    assert all(report.passed and report.onnx == report.pytorch for report in verdict.parity.values())
    assert not verify(bank).parity, "without a checkpoint PyTorch is not asked"


def test_the_checkpoint_of_another_run_is_told_from_the_right_one(
    export: Export, houlsby: Path, tiny_base: Path, tiny_data: Path, tmp_path: Path
) -> None:
    export("merged", f"tone={houlsby}", out="tone")
    other = trained(tmp_path / "other", tiny_base, tiny_data, kind="houlsby", num_modules=3, seed=1)
    with pytest.raises(ParityError, match="tone does not agree with PyTorch: logits differ by up to"):
        verify(tmp_path / "tone", [str(other)])


def test_an_adapter_that_answers_otherwise_is_found_though_every_hash_holds(bank: Path) -> None:
    change_adapter(bank, "start")
    with pytest.raises(BundleError, match="adapter start does not give the logits that it gave in PyTorch"):
        verify(bank)


def test_the_data_that_are_given_are_compared(export: Export, lora: Path, noun_data: Path, tmp_path: Path) -> None:
    export("merged", lora)
    data = tmp_path / "few.csv"
    data.write_text("\n".join(noun_data.read_text().splitlines()[:6]) + "\n")
    (report,) = verify(tmp_path / "out", [str(lora)], data=data).parity.values()
    assert (report.rows, report.data) == (9, "few.csv")
    with pytest.raises(ExportError, match="name it with --against"):
        verify(tmp_path / "out", data=data)


def test_the_tolerance_is_that_of_the_export(export: Export, lora: Path, tmp_path: Path) -> None:
    export("merged", lora, tolerance=0.25)
    assert verify(tmp_path / "out", [str(lora)]).parity["lora"].bounds.tolerance == 0.25
    with pytest.raises(ParityError, match="tolerance 0e"):
        verify(tmp_path / "out", [str(lora)], tolerance=0.0)


def test_checkpoints_that_are_not_in_the_bundle_are_named(bank: Path, houlsby: Path, lora: Path) -> None:
    with pytest.raises(ExportError, match="has no adapter houlsby; it has tone, start: say which one"):
        verify(bank, [str(houlsby)])
    with pytest.raises(ExportError, match="has other labels than the adapter tone"):
        verify(bank, [f"tone={lora}"])
