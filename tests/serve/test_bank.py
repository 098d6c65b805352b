import numpy as np
import pytest

from serve.adapter import Adapter
from serve.bank import Bank
from serve.bundle import Bundle
from serve.errors import BundleError
from tests.serve.conftest import SITE


def test_stacks_are_as_wide_as_the_widest(bundle: Bundle) -> None:
    bank = Bank(bundle.manifest.inputs, list(bundle.adapters.values()))
    shapes = {name: stack.shape for name, stack in bank.stacks.items()}
    assert shapes == {
        f"{SITE}.lora.down.weight": (3, 6, 4),
        f"{SITE}.lora.up.weight": (3, 4, 6),
        "classifier.head.weight": (3, 6, 3),
        "classifier.head.bias": (3, 3),
    }


def test_a_kind_that_no_adapter_has_takes_next_to_no_room(bundle: Bundle) -> None:
    bank = Bank(bundle.manifest.inputs, [])
    assert bank.stacks[f"{SITE}.lora.down.weight"].shape == (1, 6, 1)


def test_slot_zero_is_the_base(bundle: Bundle) -> None:
    bank = Bank(bundle.manifest.inputs, list(bundle.adapters.values()))
    assert all((stack[0] == 0).all() for stack in bank.stacks.values())


def test_a_smaller_adapter_is_padded_with_zeros(bundle: Bundle) -> None:
    bank = Bank(bundle.manifest.inputs, list(bundle.adapters.values()))
    stack = bank.stacks[f"{SITE}.lora.down.weight"][bank.slots["tone"]]
    np.testing.assert_array_equal(stack[:, :2], bundle.adapters["tone"].tensors[f"{SITE}.lora.down.weight"].T)
    assert (stack[:, 2:] == 0).all()


def test_an_adapter_of_another_kind_is_refused(bundle: Bundle) -> None:
    tone = bundle.adapters["tone"]
    foreign = Adapter(tone.card, {f"{SITE}.houlsby.down.weight": np.zeros((2, 6), np.float32)})
    with pytest.raises(BundleError, match="has no input for"):
        Bank(bundle.manifest.inputs, [foreign])


def test_an_adapter_of_another_width_is_refused(bundle: Bundle) -> None:
    tone = bundle.adapters["tone"]
    foreign = Adapter(tone.card, {f"{SITE}.lora.down.weight": np.zeros((2, 7), np.float32)})
    with pytest.raises(BundleError, match=r"is \(2, 7\), the graph takes 6"):
        Bank(bundle.manifest.inputs, [foreign])
