"""Copies by address, on the host and through the functions of the CUDA runtime."""

import ctypes

import numpy as np
import pytest

from serve.errors import ProviderError
from serve.runtime.device_memory import CUDA_DEVICE, HOST, Blocks, CudaMemory, DeviceMemory, HostMemory, memory_of
from tests.fixtures.device_seam import FakeCudaRuntime

MEMORIES = [
    pytest.param(HostMemory, id="host"),
    pytest.param(lambda: CudaMemory(FakeCudaRuntime()), id="CUDA's functions over the host"),
    pytest.param(lambda: memory_of(CUDA_DEVICE), id="GPU", marks=pytest.mark.gpu),
]


@pytest.fixture(params=MEMORIES)
def memory(request: pytest.FixtureRequest) -> DeviceMemory:
    made: DeviceMemory = request.param()
    return made


def test_blocks_are_copied_between_different_distances(memory: DeviceMemory) -> None:
    source, target = np.arange(12, dtype=np.uint8).reshape(3, 4), np.zeros((3, 6), np.uint8)
    memory.copy(Blocks(target.ctypes.data, 6), Blocks(source.ctypes.data, 4), size=2, count=3)
    memory.synchronize()
    assert target.tolist() == [[0, 1, 0, 0, 0, 0], [4, 5, 0, 0, 0, 0], [8, 9, 0, 0, 0, 0]]


def test_a_single_block_needs_no_distance(memory: DeviceMemory) -> None:
    source, target = np.arange(4, dtype=np.uint8), np.zeros(4, np.uint8)
    memory.copy(Blocks(target.ctypes.data), Blocks(source.ctypes.data), size=3)
    memory.synchronize()
    assert target.tolist() == [0, 1, 2, 0]


def test_nothing_is_copied_of_an_empty_buffer(memory: DeviceMemory) -> None:
    memory.copy(Blocks(0), Blocks(0), size=0)
    memory.copy(Blocks(0), Blocks(0), size=4, count=0)
    memory.zero(0, 0)
    memory.synchronize()


@pytest.mark.parametrize("make", MEMORIES[:2])
def test_zeros_are_written_where_they_should_be(make: type[DeviceMemory]) -> None:
    memory, target = make(), np.ones(4, np.uint8)
    memory.zero(target.ctypes.data + 1, 2)
    memory.synchronize()
    assert target.tolist() == [1, 0, 0, 1]


def test_a_device_that_fails_says_what_it_was_doing() -> None:
    runtime = FakeCudaRuntime()
    memory = CudaMemory(runtime)
    runtime.failure = 719
    with pytest.raises(RuntimeError, match=r"CUDA failed in cudaStreamSynchronize: text of 719 \(error 719\)"):
        memory.synchronize()


def test_without_a_cuda_runtime_the_error_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(name: str) -> None:
        raise OSError(name)

    monkeypatch.setattr(ctypes, "CDLL", missing)
    with pytest.raises(ProviderError, match=r"no CUDA runtime \(libcudart.so.13 or libcudart.so.12\): install"):
        CudaMemory()


def test_the_memory_of_a_device_is_one_object() -> None:
    assert memory_of(HOST) is memory_of(HOST)
