import pytest

from serve.runtime.cuda_driver import CudaDriver, DriverError, MemoryInfo, find_driver
from tests.conftest import has_gpu
from tests.fixtures.fake_driver import FakeLibrary


def test_a_version_is_major_and_minor() -> None:
    assert CudaDriver(FakeLibrary(version=12040)).version == (12, 4)
    assert CudaDriver(FakeLibrary(version=13000)).version == (13, 0)


def test_a_gpu_has_a_name_and_memory() -> None:
    library = FakeLibrary(name="NVIDIA H100 80GB HBM3", free=70 * 2**30, total=80 * 2**30)
    driver = CudaDriver(library)
    assert driver.name() == "NVIDIA H100 80GB HBM3"
    assert CudaDriver(FakeLibrary(capability=(7, 5))).compute_capability() == (7, 5)
    assert driver.memory() == MemoryInfo(free=70 * 2**30, total=80 * 2**30)
    assert library.current == [], "the context that memory is read in does not stay current"


def test_a_driver_without_a_gpu_counts_none_and_names_the_call_that_failed() -> None:
    driver = CudaDriver(FakeLibrary(name=""))
    assert driver.gpu_count() == 0
    assert CudaDriver(FakeLibrary()).gpu_count() == 1
    with pytest.raises(DriverError, match="cuInit of the NVIDIA driver returned error 100"):
        driver.name()


@pytest.mark.skipif(has_gpu(), reason="this machine has a driver")
def test_a_machine_without_a_driver_has_none() -> None:
    driver = find_driver()
    assert driver is None or driver.gpu_count() == 0


@pytest.mark.gpu
def test_the_gpu_of_this_machine_has_less_memory_free_than_in_all() -> None:
    driver = find_driver()
    assert driver is not None
    assert driver.name().startswith("NVIDIA")
    memory = driver.memory()
    assert 0 < memory.free <= memory.total
