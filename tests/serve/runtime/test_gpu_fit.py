from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from serve.bundle.reader import Bundle, open_bundle
from serve.engine import DeviceInfo
from serve.errors import ProviderError
from serve.runtime.cuda_driver import CudaDriver, MemoryInfo
from serve.runtime.gpu_fit import check_memory, check_precision, choose_device, needed_bytes
from serve.runtime.providers import CPU, CUDA, CudaInstallation
from tests.fixtures.fake_driver import FakeLibrary, fake_cuda
from tests.serve.conftest import RANKS, WIDTH, Reference, write_bundle

INTENT_FLOATS = 2 * RANKS["intent"] * WIDTH + 3 * WIDTH + 3
"""Weights of the widest adapter: down, up, and a head of three labels with its bias."""


def test_a_bundle_that_fits_goes_to_the_gpu(bundle: Bundle) -> None:
    chosen = choose_device(bundle, "auto", slots=None, cuda=fake_cuda())
    assert chosen.choice.provider == CUDA
    assert chosen.gpu == DeviceInfo(name="NVIDIA Fake 8GB", memory_bytes=8 * 2**30)


def test_the_cpu_needs_no_gpu(bundle: Bundle) -> None:
    chosen = choose_device(bundle, "cpu", slots=None, cuda=fake_cuda(free=0))
    assert (chosen.choice.provider, chosen.gpu) == (CPU, None)


def test_a_bank_needs_its_graph_and_a_slot_for_each_adapter_and_the_base(bundle: Bundle) -> None:
    graph = (bundle.folder / "model.onnx").stat().st_size
    assert needed_bytes(bundle, slots=None) == {"the graph": graph, "2 adapter slots": 3 * 4 * INTENT_FLOATS}
    assert needed_bytes(bundle, slots=63)["63 adapter slots"] == 64 * 4 * INTENT_FLOATS


def test_a_merged_bundle_needs_its_graph(tmp_path: Path, reference: Reference) -> None:
    merged = open_bundle(write_bundle(tmp_path / "merged", reference, ["tone"], shape="merged"))
    assert needed_bytes(merged, slots=None) == {"the graph": (merged.folder / "model.onnx").stat().st_size}


def test_external_weights_and_an_encoder_count(bundle: Bundle) -> None:
    before = needed_bytes(bundle, slots=0)["the graph"]
    names = {"model.onnx.data": 1000, "encoder.onnx": 200, "notes.txt": 5}
    for name, size in names.items():
        (bundle.folder / name).write_bytes(bytes(size))
    files = {**bundle.manifest.files, **dict.fromkeys(names, "")}
    whole = replace(bundle, manifest=replace(bundle.manifest, files=files))
    assert needed_bytes(whole, slots=0)["the graph"] == before + 1200


def test_a_gpu_without_memory_is_an_error_with_both_figures(bundle: Bundle) -> None:
    small = fake_cuda(free=100, total=16 * 2**30)
    with pytest.raises(
        ProviderError, match=r"CUDA was requested, but .*bundle on NVIDIA Fake 8GB needs at least .* of "
    ):
        choose_device(bundle, "cuda", slots=None, cuda=small)
    chosen = choose_device(bundle, "auto", slots=None, cuda=small)
    assert (chosen.choice.provider, chosen.choice.is_fallback, chosen.gpu) == (CPU, True, None)
    assert "0.0 MiB of 16.0 GiB are free" in chosen.choice.reason


def test_memory_that_is_just_enough_is_enough() -> None:
    needed = {"the graph": 3 * 2**30, "64 adapter slots": 2**29}
    check_memory(needed, MemoryInfo(free=7 * 2**29, total=2**33), name="b on g")
    with pytest.raises(ProviderError) as error:
        check_memory(needed, MemoryInfo(free=7 * 2**29 - 1, total=2**33), name="b on g")
    assert str(error.value) == (
        "b on g needs at least 3.5 GiB of memory (3.0 GiB for the graph, 512.0 MiB for 64 adapter slots), and 3.5 GiB "
        "of 8.0 GiB are free: end what else runs there, take fewer --slots, or export a smaller --precision"
    )


@pytest.mark.parametrize(
    ("task", "precision"),
    [("text-classification", "int8"), ("text-generation", "w8a8"), ("text2text-generation", "w8a8")],
)
def test_integer_products_are_for_the_cpu(bundle: Bundle, task: str, precision: str) -> None:
    integers = replace(bundle, manifest=replace(bundle.manifest, task=task, precision=precision))
    with pytest.raises(ProviderError, match=rf"the bundle is {precision}, and .* for the CPU alone: export it again"):
        choose_device(integers, "cuda", slots=None, cuda=fake_cuda())
    chosen = choose_device(integers, "auto", slots=None, cuda=fake_cuda())
    assert (chosen.choice.provider, chosen.choice.is_fallback) == (CPU, True)


@pytest.mark.parametrize(("task", "precision"), [("text-classification", "fp16"), ("text-generation", "int8")])
def test_other_precisions_run_on_a_gpu(bundle: Bundle, task: str, precision: str) -> None:
    check_precision(replace(bundle.manifest, task=task, precision=precision))


def test_a_bundle_in_bf16_is_for_gpus(bundle: Bundle) -> None:
    bf16 = replace(bundle, manifest=replace(bundle.manifest, precision="bf16"))
    choice = choose_device(bf16, "auto", slots=None, cuda=fake_cuda()).choice
    assert (choice.provider, choice.required) == (CUDA, True), "a GPU that does not start is an error"
    with pytest.raises(ProviderError, match=r"the bundle is bf16, .* serve it on a GPU, or export it again .* int8$"):
        choose_device(bf16, "cpu", slots=None, cuda=fake_cuda())
    none = CudaInstallation(driver=None, version=(13, 0))
    with pytest.raises(
        ProviderError, match=r"the bundle is bf16, .* or int8 \(no GPU is used: there is no NVIDIA driver"
    ):
        choose_device(bf16, "auto", slots=None, cuda=none)


def test_a_gpu_before_ampere_has_no_bf16(bundle: Bundle) -> None:
    bf16 = replace(bundle, manifest=replace(bundle.manifest, precision="bf16"))
    with pytest.raises(ProviderError) as error:
        choose_device(bf16, "cuda", slots=None, cuda=fake_cuda(name="Tesla T4", capability=(7, 5)))
    assert str(error.value) == (
        "CUDA was requested, but the bundle is bf16, and Tesla T4 has compute capability 7.5; 8.0 is the least: take a "
        "newer GPU, or export it again with --precision fp16"
    )
    assert choose_device(bundle, "cuda", slots=None, cuda=fake_cuda(capability=(7, 5))).choice.provider == CUDA


def test_a_driver_that_fails_is_an_obstacle(bundle: Bundle) -> None:
    class Broken(FakeLibrary):
        def cuMemGetInfo_v2(self, free: Any, total: Any) -> int:
            return 999

    cuda = CudaInstallation(driver=CudaDriver(Broken()), version=(13, 0))
    with pytest.raises(ProviderError, match="but cuMemGetInfo_v2 of the NVIDIA driver returned error 999"):
        choose_device(bundle, "cuda", slots=None, cuda=cuda)


@pytest.mark.gpu
def test_more_slots_than_the_gpu_has_memory_for_are_refused(bundle: Bundle) -> None:
    assert choose_device(bundle, "cuda", slots=None).choice.provider == CUDA
    with pytest.raises(ProviderError, match="10000000000 adapter slots"):
        choose_device(bundle, "cuda", slots=10_000_000_000)
