import time
from pathlib import Path

import pytest

from serve.adapters.stack_memory import check_fits, total_memory
from serve.bundle.reader import Bundle
from serve.classification.classifier import Classifier
from serve.errors import BundleError


@pytest.mark.parametrize("slots", [10**11, 10**30])
def test_slots_that_no_memory_holds_are_refused_at_once(bundle: Bundle, slots: int) -> None:
    started = time.monotonic()
    with pytest.raises(BundleError) as told:
        Classifier(bundle, provider="cpu", threads=1, slots=slots)
    assert time.monotonic() - started < 5
    assert str(told.value).startswith(f"there is not enough memory for {slots} slots, which need ")
    assert "\n" not in str(told.value)


def test_stacks_up_to_all_memory_are_taken() -> None:
    floats = total_memory() // 4
    check_fits([(2, floats // 4), (floats // 2,)], slots=1)
    with pytest.raises(BundleError, match="take fewer"):
        check_fits([(2, floats // 2), (8,)], slots=1)


def test_a_container_may_have_less_than_its_machine(tmp_path: Path) -> None:
    machine = total_memory(tmp_path / "none")
    for text, memory in (("max\n", machine), ("4096\n", 4096), (f"{machine * 2}\n", machine)):
        (tmp_path / "memory.max").write_text(text)
        assert total_memory(tmp_path / "memory.max") == memory
