"""Stacks as inputs of a run: what a run reads after a slot was written."""

import numpy as np
import onnxruntime as ort
import pytest

from serve.adapters.bank import Bank
from serve.adapters.stacks import STACKS, DeviceStacks, HostStacks, Stacks
from serve.bundle.reader import Bundle
from serve.errors import BundleError
from serve.runtime.device_memory import CUDA_DEVICE, HOST
from tests.fixtures.device_seam import FakeCudaRuntime

KINDS = [
    pytest.param(HostStacks, HOST, id="host"),
    pytest.param(DeviceStacks, HOST, id="addresses of the host"),
    pytest.param(STACKS[CUDA_DEVICE], CUDA_DEVICE, id="GPU", marks=pytest.mark.gpu),
]


@pytest.mark.parametrize(("kind", "device"), KINDS)
def test_a_run_reads_a_slot_after_it_was_updated(kind: type[Stacks], device: str) -> None:
    arrays = {"down": np.arange(12, dtype=np.float32).reshape(3, 2, 2), "up": np.zeros((3, 4), np.float32)}
    made = kind(arrays, device)
    np.testing.assert_array_equal(made.feeds["bank.down"].numpy(), np.arange(12).reshape(3, 2, 2))
    arrays["down"][1], arrays["up"][1] = -1, 5
    made.update(1)
    np.testing.assert_array_equal(
        made.feeds["bank.down"].numpy(), [[[0, 1], [2, 3]], [[-1, -1]] * 2, [[8, 9], [10, 11]]]
    )
    np.testing.assert_array_equal(made.feeds["bank.up"].numpy(), [[0] * 4, [5] * 4, [0] * 4])


def test_on_a_device_only_the_slot_is_copied(device_paths: FakeCudaRuntime) -> None:
    arrays = {"down": np.zeros((9, 2, 2), np.float32), "up": np.zeros((9, 4), np.float32)}
    made = STACKS[HOST](arrays, HOST)
    device_paths.copies.clear()
    made.update(7)
    assert device_paths.copies == [(16, 1), (16, 1)]


def test_a_device_without_memory_leaves_the_bank_as_it_was(
    bundle: Bundle, device_paths: FakeCudaRuntime, monkeypatch: pytest.MonkeyPatch
) -> None:
    tone, intent = bundle.adapters["tone"], bundle.adapters["intent"]
    bank = Bank(bundle.manifest.inputs, [tone], slots=2)
    before = bank.feeds

    def full(*_: object) -> None:
        raise RuntimeError("out of memory")

    monkeypatch.setattr(ort.OrtValue, "ortvalue_from_shape_and_type", full)
    with pytest.raises(BundleError, match="not enough memory for 2 slots: take fewer"):
        bank.place([intent])  # of a larger rank
    assert bank.feeds is before
    assert list(bank.place([tone])) == [1]
