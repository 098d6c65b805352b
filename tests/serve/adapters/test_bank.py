import threading

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from serve.adapters.bank import Bank
from serve.bundle.adapter import WEIGHTS, Adapter
from serve.bundle.reader import Bundle
from serve.classification.classifier import Classifier
from serve.errors import BundleError
from tests.serve.conftest import LABELS, SITE, card


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
    stack = bank.stacks[f"{SITE}.lora.down.weight"][bank.slots[bundle.adapters["tone"].card.sha256]]
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


def slots(bank: Bank, bundle: Bundle) -> dict[str, int]:
    """The slots by the names of their adapters, the one used least recently first."""
    names = {adapter.card.sha256: name for name, adapter in bundle.adapters.items()}
    return {names[sha256]: slot for sha256, slot in bank.slots.items()}


def test_a_spare_slot_takes_an_adapter_later(bundle: Bundle) -> None:
    tone, intent = bundle.adapters["tone"], bundle.adapters["intent"]
    bank = Bank(bundle.manifest.inputs, [intent], slots=3)
    assert bank.place([tone, intent, tone]).tolist() == [2, 1, 2]
    whole = Bank(bundle.manifest.inputs, [intent, tone], slots=3)
    assert slots(bank, bundle) == {"intent": 1, "tone": 2}
    for name, stack in whole.stacks.items():
        np.testing.assert_array_equal(bank.stacks[name], stack)
        np.testing.assert_array_equal(bank.feeds[f"bank.{name}"].numpy(), stack)


def test_a_wider_adapter_widens_the_stacks_and_changes_none_of_the_others(bundle: Bundle) -> None:
    tone, intent = bundle.adapters["tone"], bundle.adapters["intent"]
    bank = Bank(bundle.manifest.inputs, [tone], slots=2)
    assert bank.stacks[f"{SITE}.lora.down.weight"].shape == (3, 6, 2)
    bank.place([intent])
    whole = Bank(bundle.manifest.inputs, [tone, intent])
    for name, stack in whole.stacks.items():
        np.testing.assert_array_equal(bank.feeds[f"bank.{name}"].numpy(), stack)


def test_the_slot_that_was_used_least_recently_is_taken(mixed: Classifier) -> None:
    bundle = mixed.bundle
    tone, intent, match = (bundle.adapters[name] for name in ("tone", "intent", "match"))
    bank = Bank(bundle.manifest.inputs, list(bundle.adapters.values()), slots=2)
    assert slots(bank, bundle) == {"tone": 1, "intent": 2}
    bank.place([tone])
    bank.place([match])
    assert slots(bank, bundle) == {"tone": 1, "match": 2}
    bank.place([intent, match])
    assert slots(bank, bundle) == {"match": 2, "intent": 1}
    assert bank.slot_writes == 4
    bank.remove(intent)
    bank.place([tone])
    assert slots(bank, bundle) == {"match": 2, "tone": 1}, "one that is gone leaves first"


def test_a_slot_keeps_nothing_of_the_adapter_before(bundle: Bundle) -> None:
    tone, intent = bundle.adapters["tone"], bundle.adapters["intent"]
    bank = Bank(bundle.manifest.inputs, [intent], slots=1)
    bank.place([tone])
    assert slots(bank, bundle) == {"tone": 1}
    down = bank.stacks[f"{SITE}.lora.down.weight"][1]
    np.testing.assert_array_equal(down[:, :2], tone.tensors[f"{SITE}.lora.down.weight"].T)
    assert not down[:, 2:].any()


@given(st.lists(st.sampled_from(list(LABELS)), max_size=12), st.integers(1, 4))
def test_rows_are_cut_so_that_their_adapters_have_slots_together(names: list[str], room: int) -> None:
    adapters = [Adapter(card(name), {}) for name in names]
    bank = Bank([], [], slots=room)
    parts = list(bank.batches(adapters))
    assert sorted(index for part in parts for index in part) == list(range(len(names)))
    assert all(len({names[index] for index in part}) <= room for part in parts)
    assert len([part for part in parts if part]) <= -(-len(set(names)) // room) or not names


def test_a_bank_without_slots_says_so(bundle: Bundle) -> None:
    bank = Bank(bundle.manifest.inputs, [], slots=0)
    with pytest.raises(BundleError, match="the bank has no slot"):
        list(bank.batches([bundle.adapters["tone"]]))


def test_weights_beyond_those_held_are_read_again_and_checked_again(mixed: Classifier) -> None:
    bundle = mixed.bundle
    tone, intent, match = (bundle.adapters[name] for name in ("tone", "intent", "match"))
    bank = Bank(bundle.manifest.inputs, [tone, intent, match], slots=1, max_host_adapters=1)
    assert [adapter.in_memory for adapter in (tone, intent, match)] == [True, False, False]
    bank.place([match])
    assert [adapter.in_memory for adapter in (tone, intent, match)] == [False, False, True]
    bank.place([tone])
    np.testing.assert_array_equal(
        bank.stacks[f"{SITE}.lora.down.weight"][1][:, :2], tone.tensors[f"{SITE}.lora.down.weight"].T
    )
    assert intent.folder is not None
    with (intent.folder / WEIGHTS).open("ab") as file:
        file.write(b"!")
    with pytest.raises(BundleError, match="is damaged"):
        bank.place([intent])
    assert slots(bank, bundle) == {"tone": 1}, "the slot that would have been taken is kept"


def test_without_memory_for_wider_stacks_the_old_ones_stay(bundle: Bundle, monkeypatch: pytest.MonkeyPatch) -> None:
    tone, intent = bundle.adapters["tone"], bundle.adapters["intent"]
    bank = Bank(bundle.manifest.inputs, [tone], slots=2)
    before = {name: stack.copy() for name, stack in bank.stacks.items()}

    def fail(*_: object) -> None:
        raise MemoryError

    with monkeypatch.context() as patch:
        patch.setattr(np, "zeros", fail)
        with pytest.raises(BundleError, match="not enough memory for 2 slots: take fewer"):
            bank.place([intent])
    assert slots(bank, bundle) == {"tone": 1}
    for name, stack in before.items():
        np.testing.assert_array_equal(bank.stacks[name], stack)
    assert bank.place([intent]).tolist() == [2]


def test_a_run_keeps_its_adapters_in_their_slots_while_others_are_placed(mixed: Classifier) -> None:
    bundle = mixed.bundle
    tone, intent, match = (bundle.adapters[name] for name in ("tone", "intent", "match"))
    bank = Bank(bundle.manifest.inputs, [], slots=2)
    ended = threading.Event()

    def wait_for_a_slot() -> None:
        bank.place([match])
        ended.set()

    with bank.acquire([tone]) as (first, _):
        bank.place([intent])
        bank.place([match])
        assert slots(bank, bundle) == {"tone": first[0], "match": 3 - first[0]}, "intent gave way, though used later"
        bank.place([intent])
        with bank.acquire([intent]):
            other = threading.Thread(target=wait_for_a_slot)
            other.start()
            assert not ended.wait(0.1), "both slots are in use"
            assert set(slots(bank, bundle)) == {"tone", "intent"}
        assert ended.wait(10)
        other.join()
        assert set(slots(bank, bundle)) == {"tone", "match"}
    assert not bank.in_use


def test_a_run_that_fails_gives_its_slots_back(bundle: Bundle) -> None:
    bank = Bank(bundle.manifest.inputs, [], slots=1)
    with pytest.raises(RuntimeError), bank.acquire([bundle.adapters["tone"]]):
        raise RuntimeError
    assert bank.place([bundle.adapters["intent"]]).tolist() == [1]


def many(bundle: Bundle, count: int) -> list[Adapter]:
    """Adapters with the weights of `tone`, each a multiple of them."""
    tone = bundle.adapters["tone"]
    return [
        Adapter(card(f"a{index}"), {name: tensor * (index + 1) for name, tensor in tone.tensors.items()})
        for index in range(count)
    ]


def test_a_pinned_adapter_keeps_its_slot_and_its_memory(bundle: Bundle) -> None:
    adapters = many(bundle, 6)
    bank = Bank(bundle.manifest.inputs, [], slots=2, max_host_adapters=2)
    bank.pin(adapters[:1])
    slot = bank.slots["a0"]
    for adapter in adapters[1:]:
        bank.place([adapter])
        assert bank.slots["a0"] == slot
        assert "a0" in bank.host_adapters
    np.testing.assert_array_equal(
        bank.stacks["classifier.head.bias"][slot][:2], adapters[0].tensors["classifier.head.bias"]
    )
    assert bank.slot_writes == 6
    bank.pin([])
    bank.place(adapters[1:3])
    assert "a0" not in bank.slots


def test_pinned_adapters_leave_a_slot_for_others(bundle: Bundle) -> None:
    adapters = many(bundle, 2)
    bank = Bank(bundle.manifest.inputs, [], slots=2)
    with pytest.raises(BundleError, match=r"pinned in 2 of 2 slots, and others need one: .* give --slots 3"):
        bank.pin(adapters)
    assert not bank.pinned


def test_a_batch_is_split_by_the_slots_that_pinned_adapters_leave(bundle: Bundle) -> None:
    adapters = many(bundle, 6)
    bank = Bank(bundle.manifest.inputs, [], slots=3)
    bank.pin(adapters[:1])
    parts = list(bank.batches(adapters))
    assert sorted(index for part in parts for index in part) == list(range(6))
    for part in parts:
        with bank.acquire([adapters[index] for index in part]) as (slots, _):
            assert len(set(slots.tolist())) == len(part)
            assert "a0" in bank.slots
    assert list(bank.batches(adapters[:3])) == [[0, 1, 2]]


def test_others_wait_rather_than_take_a_pinned_adapter_s_slot(bundle: Bundle) -> None:
    adapters = many(bundle, 3)
    bank = Bank(bundle.manifest.inputs, [], slots=2)
    bank.pin(adapters[:1])
    done = threading.Event()

    def place() -> None:
        bank.place([adapters[2]])
        done.set()

    with bank.acquire([adapters[1]]):
        assert not bank.can_acquire(adapters[2])
        assert bank.can_acquire(adapters[0])
        threading.Thread(target=place, daemon=True).start()
        assert not done.wait(0.1)
    assert done.wait(10)
    assert set(bank.slots) == {"a0", "a2"}


def test_rows_of_the_version_of_a_pinned_adapter_that_was_replaced_still_run(bundle: Bundle) -> None:
    """A batch was split when another adapter was pinned: what it wants and what is pinned are more than all slots."""
    adapters = many(bundle, 3)
    bank = Bank(bundle.manifest.inputs, [], slots=2)
    bank.pin(adapters[:1])
    (part,) = bank.batches(adapters[:2])
    bank.pin(adapters[2:])
    with bank.acquire([adapters[index] for index in part]) as (slots, _):
        assert len(set(slots.tolist())) == 2
    bank.place([adapters[2]])
    assert "a2" in bank.slots
