import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from serve.bundle import adapter
from serve.bundle.adapter import CARD, AdapterCard, Tensors, check_adapter_name, read_adapter
from serve.bundle.checked_json import read_checked_json, write_checked_json
from serve.errors import BundleError
from tests.serve.conftest import CANARY, Reference, write_adapter


def test_an_adapter_comes_back(tmp_path: Path, reference: Reference) -> None:
    write_adapter(tmp_path / "tone", reference, "tone")
    adapter = read_adapter(tmp_path / "tone")
    assert adapter.card.labels == ["negative", "positive"]
    for name, tensor in reference.adapters["tone"].items():
        np.testing.assert_array_equal(adapter.tensors[name], tensor)


def test_a_card_from_before_members_is_that_of_a_mean(tmp_path: Path, reference: Reference) -> None:
    write_adapter(tmp_path / "tone", reference, "tone")
    card = read_checked_json(tmp_path / "tone" / CARD)
    del card["member_of"]
    write_checked_json(tmp_path / "tone" / CARD, card)
    assert read_adapter(tmp_path / "tone").card.member_of == ""


def test_changed_weights_are_refused(tmp_path: Path, reference: Reference) -> None:
    write_adapter(tmp_path / "tone", reference, "tone")
    write_adapter(tmp_path / "intent", reference, "intent")
    (tmp_path / "intent" / "adapter.safetensors").replace(tmp_path / "tone" / "adapter.safetensors")
    with pytest.raises(BundleError, match="sha256 does not match"):
        read_adapter(tmp_path / "tone")


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_weights_that_are_not_finite_are_refused(tmp_path: Path, reference: Reference, value: float) -> None:
    """A graph may hide what it makes of them: 8-bit products give a finite level for NaN."""
    (name, tensor), *_ = reference.adapters["tone"].items()
    broken = replace(reference, adapters={"tone": {**reference.adapters["tone"], name: tensor.copy()}})
    broken.adapters["tone"][name].flat[-1] = value
    intact = [reference.logits(ids, "tone").tolist() for ids in CANARY]
    write_adapter(tmp_path / "tone", broken, "tone", canary_logits=intact)
    with pytest.raises(
        BundleError, match=rf"has a number in '{re.escape(name)}' that is not finite: train the adapter"
    ):
        read_adapter(tmp_path / "tone")


def test_missing_weights_are_named(tmp_path: Path, reference: Reference) -> None:
    write_adapter(tmp_path / "tone", reference, "tone")
    (tmp_path / "tone" / "adapter.safetensors").unlink()
    with pytest.raises(BundleError, match=r"adapter\.safetensors is missing"):
        read_adapter(tmp_path / "tone")


@pytest.mark.parametrize("name", ["", ".", "..", "a/b", "a b", "-x", "x" * 65, "a\n", "ä"])
def test_a_name_fits_a_path_a_header_and_a_label(name: str) -> None:
    with pytest.raises(BundleError, match="is no name for an adapter"):
        check_adapter_name(name)


def test_a_folder_that_is_replaced_while_it_is_read_gives_the_new_adapter(
    tmp_path: Path, reference: Reference, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_adapter(tmp_path / "tone", reference, "tone")
    write_adapter(tmp_path / "intent", reference, "intent")
    read, places = adapter._read_weights, [tmp_path / "intent"]

    def replaced_before(folder: Path, card: AdapterCard) -> Tensors:
        if places:
            (tmp_path / "tone").rename(tmp_path / "old")
            places.pop().rename(tmp_path / "tone")
        return read(folder, card)

    monkeypatch.setattr(adapter, "_read_weights", replaced_before)
    assert read_adapter(tmp_path / "tone").card.name == "intent"
