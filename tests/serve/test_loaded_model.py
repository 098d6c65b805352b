from pathlib import Path

import onnx
import pytest
from onnx import TensorProto, helper

from serve.bundle.manifest import Edge
from serve.bundle.reader import Bundle
from serve.engine import EngineInfo, EngineStats, ModelInfo, ResidentAdapters
from serve.errors import BundleError, ProviderError
from serve.loaded_model import LoadedModel
from serve.runtime.gpu_fit import DeviceChoice
from serve.runtime.providers import CUDA, ProviderChoice
from tests.serve.conftest import BASE, LABELS, Reference, card, relist, write_bundle

PARITY = {"tone": {"agreement": 1.0}}


@pytest.fixture
def merged(tmp_path: Path, reference: Reference) -> LoadedModel:
    fields = {"shape": "merged", "parity": PARITY, "versions": {"onnx": "1"}}
    return LoadedModel(write_bundle(tmp_path / "merged", reference, ["tone"], **fields), provider="cpu", threads=1)


def test_a_merged_bundle_has_no_slots(merged: LoadedModel) -> None:
    assert merged.info() == EngineInfo(
        task="text-classification",
        shape="merged",
        precision="fp32",
        provider="CPUExecutionProvider",
        slots=None,
        base={"name": "tiny", "sha256": BASE, "model_type": "tiny"},
        versions={"onnx": "1"},
        graph="model.onnx",
        graph_bytes=(merged.bundle.folder / "model.onnx").stat().st_size,
    )
    assert merged.stats({"tone": card("tone")}, waiting=3) == EngineStats(adapters=1, waiting=3)


def test_a_bank_has_a_slot_for_each_adapter_and_each_spare_one(tmp_path: Path, reference: Reference) -> None:
    folder = write_bundle(tmp_path / "spare", reference, ["tone", "intent"], spare_slots=3)
    assert LoadedModel(folder, provider="cpu", threads=1).info().slots == 5


def test_stats_of_a_bank_count_its_slots_and_the_adapters_in_memory(bundle: Bundle) -> None:
    model = LoadedModel(bundle, provider="cpu", threads=1, slots=1, host_adapters=1)
    cards = {name: adapter.card for name, adapter in bundle.adapters.items()}
    before = EngineStats(adapters=2, waiting=3, slots=1, slot_writes=1, host_adapters=1)
    assert model.stats(cards, waiting=3) == before
    assert model.bank is not None
    model.bank.place([bundle.adapters["intent"]])
    assert model.stats(cards).slot_writes == 2


def test_adapters_are_found_where_their_weights_are(bundle: Bundle, merged: LoadedModel) -> None:
    model = LoadedModel(bundle, provider="cpu", threads=1, slots=1, host_adapters=2)
    cards = {name: adapter.card for name, adapter in bundle.adapters.items()}
    assert model.bank is not None
    for name in ("tone", "intent"):
        model.bank.place([bundle.adapters[name]])
    assert model.resident_adapters(cards) == ResidentAdapters(in_slots=["intent"], in_host=["intent", "tone"])
    assert model.resident_adapters({**cards, "same": cards["intent"]}).in_slots == ["intent", "same"]
    assert model.resident_adapters({"tone": cards["tone"]}).in_slots == []
    assert merged.resident_adapters({"tone": cards["tone"]}) == ResidentAdapters(in_slots=["tone"])


def test_an_adapter_is_described_by_its_card_and_the_parity_of_its_export(merged: LoadedModel) -> None:
    assert merged.model_info(merged.bundle.adapters["tone"].card) == ModelInfo(
        name="tone",
        sha256=merged.bundle.adapters["tone"].card.sha256,
        kind="lora",
        labels=LABELS["tone"],
        pairs=False,
        regression=False,
        max_length=8,
        metrics={"accuracy": 1.0},
        parity=PARITY["tone"],
        rank=2,
        num_modules=4,
    )


def test_an_adapter_that_is_not_of_the_export_has_the_parity_of_its_own(merged: LoadedModel) -> None:
    assert merged.model_info(card("later")).parity is None
    own = {"agreement": 0.5}
    assert merged.model_info(card("later", parity=own)).parity == own
    assert merged.model_info(card("tone")).parity is None
    assert merged.model_info(card("tone", parity=own)).parity == own


def test_a_graph_with_other_outputs_than_the_manifest_lists_is_refused(tmp_path: Path, reference: Reference) -> None:
    outputs = [Edge(name="scores", dtype="tensor(float)", shape=["batch", "labels"])]
    folder = write_bundle(tmp_path / "other", reference, ["tone"], outputs=outputs)
    with pytest.raises(BundleError, match=r"model\.onnx does not have the inputs and outputs that the manifest lists"):
        LoadedModel(folder, provider="cpu", threads=1)


@pytest.fixture
def packed(tmp_path: Path, reference: Reference) -> Path:
    """A bundle with a packed graph, whose operators have no kernel for the CPU."""
    folder = write_bundle(tmp_path / "packed", reference, ["tone"])
    states = helper.make_tensor_value_info("x", TensorProto.FLOAT, ["batch", "sequence", 4])
    lengths = helper.make_tensor_value_info("lengths", TensorProto.INT32, ["batch"])
    tokens = helper.make_tensor_value_info("tokens", TensorProto.FLOAT, ["tokens", 4])
    names = ["tokens", "offsets", "ends", "longest"]
    node = helper.make_node("RemovePadding", ["x", "lengths"], names, domain="com.microsoft")
    opsets = [helper.make_opsetid("", 20), helper.make_opsetid("com.microsoft", 1)]
    graph = helper.make_graph([node], "packed", [states, lengths], [tokens])
    onnx.save(helper.make_model(graph, opset_imports=opsets, ir_version=10), folder / "packed.onnx")
    return relist(folder)


def test_a_packed_graph_is_not_opened_on_the_cpu(packed: Path) -> None:
    assert LoadedModel(packed, provider="cpu", threads=1).info().graph == "model.onnx"


@pytest.mark.filterwarnings("ignore:Specified provider")
def test_without_cuda_the_padded_graph_is_opened_instead(packed: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    chosen = DeviceChoice(ProviderChoice(CUDA, "a GPU was found"), None)
    monkeypatch.setattr("serve.loaded_model.choose_device", lambda *_, **__: chosen)
    model = LoadedModel(packed, threads=1)
    assert (model.info().graph, model.device) == ("model.onnx", "cpu")


@pytest.mark.filterwarnings("ignore:Specified provider")
def test_without_the_cuda_that_was_required_the_error_is_about_cuda(
    packed: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    chosen = DeviceChoice(ProviderChoice(CUDA, "as requested", required=True), None)
    monkeypatch.setattr("serve.loaded_model.choose_device", lambda *_, **__: chosen)
    with pytest.raises(ProviderError, match="CUDA was requested"):
        LoadedModel(packed, provider="cuda", threads=1)


@pytest.mark.gpu
def test_a_gpu_is_named_with_its_memory(bundle: Bundle) -> None:
    device = LoadedModel(bundle, provider="cuda").info().device
    assert device is not None
    assert device.name.startswith("NVIDIA")
    assert device.memory_bytes > 2**30
