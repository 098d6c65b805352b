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


def test_a_spare_slot_takes_an_adapter_later(bundle: Bundle) -> None:
    tone, intent = bundle.adapters["tone"], bundle.adapters["intent"]
    bank = Bank(bundle.manifest.inputs, [intent], spare=2)
    bank.load(tone)
    whole = Bank(bundle.manifest.inputs, [intent, tone], spare=1)
    assert bank.slots == whole.slots
    for name, stack in whole.stacks.items():
        np.testing.assert_array_equal(bank.stacks[name], stack)
        np.testing.assert_array_equal(bank.feeds[f"bank.{name}"].numpy(), stack)


def test_a_wider_adapter_widens_the_stacks_and_changes_none_of_the_others(bundle: Bundle) -> None:
    tone, intent = bundle.adapters["tone"], bundle.adapters["intent"]
    bank = Bank(bundle.manifest.inputs, [tone], spare=1)
    assert bank.stacks[f"{SITE}.lora.down.weight"].shape == (3, 6, 2)
    bank.load(intent)
    whole = Bank(bundle.manifest.inputs, [tone, intent])
    for name, stack in whole.stacks.items():
        np.testing.assert_array_equal(bank.feeds[f"bank.{name}"].numpy(), stack)


def test_a_full_bank_takes_no_adapter(bundle: Bundle) -> None:
    tone, intent = bundle.adapters["tone"], bundle.adapters["intent"]
    bank = Bank(bundle.manifest.inputs, [tone])
    with pytest.raises(BundleError, match="intent finds no free slot: all 1 are taken; export the bank with more --sl"):
        bank.load(intent)
    assert bank.slots == {"tone": 1}


def test_a_freed_slot_keeps_nothing_of_the_adapter_before(bundle: Bundle) -> None:
    tone, intent = bundle.adapters["tone"], bundle.adapters["intent"]
    bank = Bank(bundle.manifest.inputs, [intent])
    bank.unload("intent")
    bank.load(tone)
    assert bank.slots == {"tone": 1}
    down = bank.stacks[f"{SITE}.lora.down.weight"][1]
    np.testing.assert_array_equal(down[:, :2], tone.tensors[f"{SITE}.lora.down.weight"].T)
    assert not down[:, 2:].any()
