"""The mean that ships may weigh the modules otherwise than the run did."""

import shutil
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from adamix_export.checkpoint.checkpoint import Checkpoint, open_checkpoint
from adamix_export.checkpoint.module_weights import choose_module_weights
from adamix_export.errors import ExportError
from adamix_export.parity.verification import verify
from adamix_train.data.held_out import HELD_OUT
from adamix_train.errors import DataError
from serve.bundle.reader import open_bundle
from tests.adamix_export.conftest import EXPORTS, Check, Options, trained
from tests.adamix_train.conftest import make_writer, writing_data

pytestmark = pytest.mark.slow

__all__ = ["writing_data"]

DOWN = "base_model.model.bert.encoder.layer.0.output.dense.adamix_modules.down.weight"
REFERENCE = Checkpoint.__dict__["reference"]
COLLAPSED = "bert.encoder.layer.0.output.dense.houlsby.down.weight"


@pytest.fixture(scope="module")
def learned(tiny_base: Path, tiny_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("runs") / "learned"
    return trained(folder, tiny_base, tiny_data, kind="houlsby", num_modules=3, collapse="learned")


@pytest.fixture(scope="module")
def taught(tiny_base: Path, tiny_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a run that learned its task: that of one pass is no better than chance."""
    folder = tmp_path_factory.mktemp("runs") / "taught"
    return trained(folder, tiny_base, tiny_data, kind="houlsby", num_modules=3, epochs=8)


def first_down(source: Checkpoint) -> torch.Tensor:
    """The collapsed weight of one projection; what PyTorch runs for comparison must have the same."""
    mixture = source.reference.base_model.mixtures("default")[COLLAPSED.replace(".houlsby", "").rpartition(".")[0]]
    torch.testing.assert_close(source.adapter[COLLAPSED], mixture.mean()[0])
    return source.adapter[COLLAPSED]


def modules(checkpoint: Path) -> torch.Tensor:
    return load_file(checkpoint / "adapter_model.safetensors")[DOWN]


def test_mean_weighs_alike_what_the_run_learned_to_weigh(learned: Path) -> None:
    source = open_checkpoint(str(learned))
    found = first_down(choose_module_weights(source, "uniform"))
    torch.testing.assert_close(found, modules(learned).mean(0))
    assert not torch.equal(found, first_down(source))


def test_the_mean_of_a_run_that_weighed_alike_is_its_own(houlsby: Path) -> None:
    source = choose_module_weights(open_checkpoint(str(houlsby)), "uniform")
    assert source.metrics == source.card.metrics != {}, "they were measured on the same weights"


def test_weights_are_those_that_the_run_learned(learned: Path, houlsby: Path) -> None:
    source = open_checkpoint(str(learned))
    assert torch.equal(first_down(choose_module_weights(source, "learned")), first_down(source))
    with pytest.raises(ExportError, match="houlsby has no learned weights, all of its modules weigh the same"):
        choose_module_weights(open_checkpoint(str(houlsby)), "learned")


@pytest.mark.parametrize("seed", range(3))
def test_a_greedy_soup_leaves_out_what_harms_on_the_data(
    seed: int, taught: Path, tiny_data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Module 1 of every projection is spoilt: the soup of the others is better than any with it."""
    source = open_checkpoint(str(taught))
    tensors = load_file(taught / "adapter_model.safetensors")
    torch.manual_seed(seed)

    def spoil(model):
        for name, mixture in model.base_model.mixtures("default").items():
            if name.endswith("down"):
                with torch.no_grad():
                    mixture.weight[1] = 100 * torch.randn_like(mixture.weight[1])
        return model

    monkeypatch.setattr(Checkpoint, "reference", property(lambda self: spoil(REFERENCE.func(self))))
    soup = choose_module_weights(source, "greedy-soup", tiny_data)
    assert soup.weights[1] == 0
    assert sum(soup.weights) == pytest.approx(1)
    monkeypatch.undo()
    kept = [index for index, share in enumerate(soup.weights) if share]
    torch.testing.assert_close(first_down(soup), tensors[DOWN][kept].mean(0))


def test_a_soup_is_chosen_on_what_the_run_validated_on(houlsby: Path, tiny_data: Path, tmp_path: Path) -> None:
    source = open_checkpoint(str(shutil.copytree(houlsby, tmp_path / "houlsby")))
    weights = choose_module_weights(source, "greedy-soup").weights
    assert sum(weights) == pytest.approx(1)
    gone = replace(source, card=replace(source.card, recipe={**source.card.recipe, "train_file": "gone.csv"}))
    assert choose_module_weights(gone, "greedy-soup").weights == weights
    (source.folder / HELD_OUT).unlink()
    with pytest.raises(ExportError, match="are not on this machine: name labelled texts with --collapse-data"):
        choose_module_weights(gone, "greedy-soup")
    changed = shutil.copy(tiny_data, tmp_path / "tone.csv")
    Path(changed).write_text(tiny_data.read_text() + "my shop is good,positive\n")
    other = replace(source, card=replace(source.card, recipe={**source.card.recipe, "train_file": str(changed)}))
    with pytest.raises(DataError, match="has changed since"):
        choose_module_weights(other, "greedy-soup")


def test_data_that_do_not_fit_are_refused(houlsby: Path, noun_data: Path, tiny_data: Path) -> None:
    source = open_checkpoint(str(houlsby))
    with pytest.raises(DataError, match="has labels that houlsby does not know: a, my, the"):
        choose_module_weights(source, "greedy-soup", noun_data)
    with pytest.raises(ExportError, match="add --collapse greedy-soup, or leave it out"):
        choose_module_weights(source, "uniform", tiny_data)


def test_a_fixed_route_is_not_averaged_with_what_was_never_trained(
    tiny_base: Path, tiny_data: Path, tmp_path: Path
) -> None:
    checkpoint = trained(tmp_path / "fixed", tiny_base, tiny_data, routing="fixed")
    with pytest.raises(ExportError, match="was trained on a fixed route"):
        choose_module_weights(open_checkpoint(str(checkpoint)), "uniform")


@pytest.mark.slow
def test_a_bundle_keeps_its_weights_and_is_verified_with_them(learned: Path, tmp_path: Path) -> None:
    source = choose_module_weights(open_checkpoint(f"tone={learned}"), "greedy-soup")
    EXPORTS["merged"]([source], tmp_path / "out", Options(check=Check()), lambda stage: None)
    card = open_bundle(tmp_path / "out").adapters["tone"].card
    assert tuple(card.shares) == source.weights
    assert card.metrics == {}, "they were measured on other weights"
    assert verify(tmp_path / "out", [str(learned)]).parity["tone"].passed


def test_a_soup_of_a_model_that_writes_is_chosen_by_its_loss(writing_data: Path, tmp_path: Path) -> None:
    checkpoint = trained(
        tmp_path / "run",
        make_writer(tmp_path / "base", "llama"),
        writing_data,
        task="generation",
        kind="lora",
        share="none",
        max_length=24,
        max_new_tokens=8,
        report_to="none",
    )
    source = choose_module_weights(open_checkpoint(str(checkpoint)), "greedy-soup", writing_data)
    assert set(source.weights) <= {0.0, 1.0, 1 / 2, 1 / 3, 1 / 4}
