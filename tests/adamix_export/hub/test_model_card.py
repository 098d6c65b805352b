import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from huggingface_hub import ModelCard

from adamix_export.checkpoint.checkpoint import Checkpoint, open_checkpoint
from adamix_export.hub.model_card import base_name, card_data, hub_id, write_model_card
from serve.bundle.reader import open_bundle
from tests.adamix_export.conftest import Export

pytestmark = pytest.mark.slow


@pytest.fixture
def source(lora: Path) -> Checkpoint:
    return open_checkpoint(f"start={lora}")


def in_cache(source: Checkpoint, cache: Path, readme: str | None = None) -> Checkpoint:
    """The source with its base as the Hub's cache has it, under an id."""
    folder = cache / "models--org--some-model" / "snapshots" / "0"
    folder.mkdir(parents=True)
    for file in source.base.iterdir():
        (folder / file.name).symlink_to(file)
    if readme:
        (folder / "README.md").write_text(readme)
    return replace(source, base=folder)


def test_the_card_of_a_bundle_reads_as_the_hub_reads_it(
    export: Export, houlsby: Path, lora: Path, tmp_path: Path
) -> None:
    reports = export("bank", f"tone={houlsby}", f"start={lora}")
    card = ModelCard.load(tmp_path / "out" / "README.md")
    assert card.data.pipeline_tag == "text-classification"
    assert card.data.library_name == "adamix"
    assert card.data.license == "unknown"
    assert set(card.data.tags) >= {"onnx", "onnxruntime", "adamix", "houlsby", "lora"}
    assert card.data.metrics == ["accuracy"]
    found = {result.metric_name.split()[2]: result for result in card.data.eval_results}
    assert {name: result.metric_value for name, result in found.items()} == {
        name: report.onnx for name, report in reports.items()
    }
    assert {name: result.dataset_name for name, result in found.items()} == {"tone": "tone.csv", "start": "start.csv"}


def test_the_card_shows_people_base_data_parity_and_sizes(export: Export, lora: Path, tmp_path: Path) -> None:
    export("merged", f"start={lora}")
    bundle = open_bundle(tmp_path / "out")
    text = ModelCard.load(tmp_path / "out" / "README.md").text
    size = (tmp_path / "out" / "model.onnx.data").stat().st_size
    for expected in (
        bundle.manifest.base["sha256"],
        "| start | lora | 6 | 4 | 16 tokens | a, my, the |",
        "| start | classification | start.csv |",
        f"| model.onnx.data | {size} |",
        f"{bundle.manifest.parity['start']['max_difference']:.1e}",
    ):
        assert expected in text


@pytest.mark.parametrize("shape", ["merged", "bank"])
def test_what_the_card_tells_people_to_run_runs(
    shape: str, export: Export, houlsby: Path, lora: Path, tmp_path: Path
) -> None:
    export(shape, *([lora] if shape == "merged" else [lora, houlsby]))
    text = ModelCard.load(tmp_path / "out" / "README.md").text
    code = text.partition("```python\n")[2].partition("```")[0]
    root = Path(__file__).parents[3]
    command = [sys.executable, "-c", f"import sys; sys.path.insert(0, {str(root)!r})\n{code}"]
    result = subprocess.run(command, cwd=tmp_path / "out", capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
    assert result.stdout.strip() in ("a", "my", "the")


def test_a_base_in_the_cache_of_the_hub_has_its_id(source: Checkpoint, tmp_path: Path) -> None:
    assert hub_id(source) is None
    assert base_name(source) == source.base.name
    assert hub_id(in_cache(source, tmp_path)) == base_name(in_cache(source, tmp_path / "2")) == "org/some-model"


def test_the_licence_is_that_of_the_base(export: Export, lora: Path, source: Checkpoint, tmp_path: Path) -> None:
    export("merged", f"start={lora}")
    manifest = open_bundle(tmp_path / "out").manifest
    readme = "---\nlicense: other\nlicense_name: some-license\nlicense_link: LICENSE\ntags: [x]\n---\nA base.\n"
    data = card_data(manifest, [in_cache(source, tmp_path, readme)])
    assert (data.license, data.license_name, data.license_link) == ("other", "some-license", "LICENSE")
    assert data.base_model == "org/some-model"


def test_a_set_of_the_hub_is_named_by_its_id(export: Export, lora: Path, source: Checkpoint, tmp_path: Path) -> None:
    export("merged", f"start={lora}")
    card = source.card
    recipe = {**card.recipe, "task": "sst2", "train_file": None}
    data = {"train": "a" * 64, "/home/somebody/mine.tsv": "b" * 64}
    there = replace(source, card=replace(card, task="sst2", recipe=recipe, data=data))
    write_model_card(tmp_path / "out", open_bundle(tmp_path / "out").manifest, [there])
    loaded = ModelCard.load(tmp_path / "out" / "README.md")
    assert loaded.data.datasets == ["nyu-mll/glue"]
    assert loaded.data.eval_results[0].dataset_config == "sst2"
    assert "| nyu-mll/glue train |" in loaded.text
    assert "| mine.tsv |" in loaded.text
    assert "somebody" not in loaded.text


def test_large_files_are_kept_in_the_hubs_large_file_storage(export: Export, lora: Path, tmp_path: Path) -> None:
    export("merged", lora)
    patterns = [line.split()[0] for line in (tmp_path / "out" / ".gitattributes").read_text().splitlines()]
    for file in (tmp_path / "out").rglob("*"):
        if file.suffix in (".onnx", ".data", ".safetensors"):
            assert any(file.match(pattern) for pattern in patterns), file
