"""The bank: stacked adapter weights, bound to inputs of the graph. Slot 0 is all zeros, which is the base model.

Slots are a cache with least-recently-used replacement. Any number of adapters can be served: those of a batch are
written into slots before it runs, from host memory or from disk.
"""

import threading
from collections import Counter, OrderedDict
from collections.abc import Iterator, Mapping, Sequence, Set
from contextlib import contextmanager
from types import MappingProxyType

import numpy as np
import onnxruntime as ort
from numpy.typing import NDArray

from serve.adapters.host_memory import HostMemory
from serve.adapters.stack_memory import check_fits
from serve.adapters.stacks import STACKS, Arrays, Stacks
from serve.bundle.adapter import Adapter, Tensors
from serve.bundle.graph_io import BANK, SLOTS
from serve.bundle.manifest import Edge
from serve.errors import BundleError
from serve.runtime.device_memory import HOST

BASE_SLOT = 0


class Bank:
    """One stack (1 + slots, …) for each weight that adapters may have.

    A stack is as wide as the widest of its adapters. A smaller rank and a shorter list of labels are padded with zeros,
    which is exact: a zero column of `down` stays zero through the activation and meets a zero row of `up`. A wider
    adapter that is added later widens the stacks.

    Runs may overlap: `acquire` keeps the adapters of a batch in their slots until the batch has run, and waits for a
    slot if all are in use. Pinned adapters keep their slots between batches too.
    """

    def __init__(
        self,
        edges: Sequence[Edge],
        adapters: Sequence[Adapter],
        *,
        device: str = HOST,
        slots: int | None = None,
        max_host_adapters: int | None = None,
    ) -> None:
        """Allocate `slots` slots, by default one for each of `adapters`, and fill them as far as the adapters go.

        Args:
            edges: Inputs of the bundle's graphs; those whose names begin with `bank.` are stacks.
            adapters: Adapters to serve from the start.
            device: Kind of device that holds the stacks.
            slots: Adapters on the device at a time.
            max_host_adapters: Adapters, most recently used first, whose weights stay in host memory; None keeps all.

        Raises:
            BundleError: An adapter has a weight that the graph has no input for, or memory is short.
        """
        self.device, self.max_host_adapters = device, max_host_adapters
        self.change = threading.Condition()
        self.in_use: Counter[str] = Counter()
        """Number of runs that hold an adapter in its slot, by the adapter's sha256."""
        self.edges = {edge.name.removeprefix(BANK): edge for edge in edges if edge.name.startswith(BANK)}
        self.slots: OrderedDict[str, int] = OrderedDict()
        """Slot of each resident adapter by its sha256, least recently used first."""
        self.slot_writes = 0
        """Adapters written into a slot so far."""
        self.host_adapters = HostMemory(max_host_adapters)
        self.pinned: frozenset[str] = frozenset()
        """Adapters by sha256 that keep their slot and their weights in host memory, however long ago they were used."""
        count = len(adapters) if slots is None else slots
        self.widths = _widths(self.edges, adapters, {SLOTS: 1 + count})
        self.stacks, self.inputs = self._allocate(self.widths)
        for adapter in adapters[count:]:
            self.host_adapters.hold(adapter, pinned=self.pinned)
        for adapter in adapters[:count]:
            self.place([adapter])

    @property
    def capacity(self) -> int:
        """Number of slots for adapters."""
        return self.widths[SLOTS] - 1

    @property
    def feeds(self) -> dict[str, ort.OrtValue]:
        """Stacks as inputs of a run, on the device; another object when they have been widened."""
        return self.inputs.feeds

    @property
    def resident(self) -> tuple[list[str], list[str]]:
        """Adapters in slots, and those in host memory, by sha256 and each with those used last first.

        Callable from any thread, and without the lock, which is held while an adapter is read from disk.
        """
        return list(self.slots)[::-1], list(self.host_adapters)[::-1]

    @contextmanager
    def acquire(self, adapters: Sequence[Adapter]) -> Iterator[tuple[NDArray[np.int64], dict[str, ort.OrtValue]]]:
        """Yield the slot of each adapter, (adapters,), and the stacks; both stay valid until the block ends.

        At most `capacity` adapters may differ; `batches` splits a longer list.
        """
        wanted = {adapter.card.sha256: adapter for adapter in adapters if not adapter.empty}
        with self.change:
            self.change.wait_for(lambda: self._fits(wanted.keys()))
            self._place(wanted)
            self.in_use.update(wanted.keys())
            slots = [BASE_SLOT if adapter.empty else self.slots[adapter.card.sha256] for adapter in adapters]
            feeds = self.feeds
        try:
            yield np.array(slots, np.int64), feeds
        finally:
            with self.change:
                self.in_use -= Counter(wanted.keys())
                self.change.notify_all()

    def can_acquire(self, adapter: Adapter) -> bool:
        """Return True if `acquire` would not have to wait for a slot."""
        with self.change:
            return adapter.empty or self._fits({adapter.card.sha256})

    def pin(self, adapters: Sequence[Adapter]) -> None:
        """Pin these adapters and no others: they are written into slots, and stay there and in host memory.

        Raises:
            BundleError: They would leave no slot for other adapters, or the weights of one cannot be read again.
        """
        wanted = frozenset(adapter.card.sha256 for adapter in adapters if not adapter.empty)
        if wanted and len(wanted) >= self.capacity:
            raise BundleError(
                f"adapters would be pinned in {len(wanted)} of {self.capacity} slots, and others need one: "
                f"pin fewer, or give --slots {len(wanted) + 1}"
            )
        for adapter in adapters:
            _ = adapter.tensors  # read again if they were forgotten
        with self.change:
            self.pinned = wanted
            self.change.notify_all()
        self.place(adapters)

    def place(self, adapters: Sequence[Adapter]) -> NDArray[np.int64]:
        """Return the slot of each adapter, (adapters,); those without a slot are written into one."""
        with self.acquire(adapters) as (slots, _):
            return slots

    def _place(self, wanted: Mapping[str, Adapter]) -> None:
        """Give each adapter of `wanted` a slot; adapters in use keep theirs."""
        for sha256 in wanted.keys() & self.slots.keys():
            self.slots.move_to_end(sha256)
            if wanted[sha256].in_memory:
                self.host_adapters.hold(wanted[sha256], pinned=self.pinned)
        for sha256 in wanted.keys() - self.slots.keys():
            self._write_new(wanted[sha256], kept=wanted.keys() | self.in_use.keys())

    def batches(self, adapters: Sequence[Adapter]) -> Iterator[list[int]]:
        """Yield indices of `adapters` in parts, none of which has more different adapters than there are slots."""
        pinned = self.pinned  # one set for all parts: another thread may replace it
        if len({adapter.card.sha256 for adapter in adapters} | pinned) <= self.capacity:
            yield list(range(len(adapters)))
            return
        if not self.capacity:
            raise BundleError("the bank has no slot: serve it with at least one")
        part: list[int] = []
        different = set(pinned)
        for index in sorted(range(len(adapters)), key=lambda index: adapters[index].card.sha256):
            sha256 = adapters[index].card.sha256
            if part and sha256 not in different and len(different) >= self.capacity:
                yield part
                part, different = [], set(pinned)
            part.append(index)
            different.add(sha256)
        yield part

    def remove(self, adapter: Adapter) -> None:
        """Drop an adapter that is no longer served; its slot is the next to be reused."""
        with self.change:
            self.host_adapters.pop(adapter.card.sha256, None)
            if adapter.card.sha256 in self.slots:
                self.slots.move_to_end(adapter.card.sha256, last=False)

    def _write_new(self, adapter: Adapter, *, kept: Set[str]) -> None:
        """Write an adapter into a free slot, or replace the least recently used adapter outside `kept`."""
        self._widen(_widths(self.edges, [adapter], self.widths))
        free = _free_slot(self.widths[SLOTS], set(self.slots.values()))
        slot = self.slots.pop(self._least_used(kept)) if free is None else free
        _fill(self.stacks, slot, adapter.tensors)
        self.inputs.update(slot)
        self.slots[adapter.card.sha256] = slot
        self.slot_writes += 1
        self.host_adapters.hold(adapter, pinned=self.pinned)

    def _fits(self, wanted: Set[str]) -> bool:
        """Return True if there are slots for adapters, beside those in use and those pinned.

        Pinned adapters do not count where no batch could ever run beside them: rows may hold the version of a pinned
        adapter that was replaced meanwhile.
        """
        pinned = self.pinned if len(self.pinned | wanted) <= self.capacity else frozenset()
        return len(self.in_use.keys() | wanted | pinned) <= self.capacity

    def _least_used(self, kept: Set[str]) -> str:
        """Return the adapter that was used least recently outside `kept`; a pinned one only if there is no other."""
        others = [sha256 for sha256 in self.slots if sha256 not in kept]
        return min(others, key=self.pinned.__contains__)  # the first of those that are equal

    def _widen(self, widths: dict[str, int]) -> None:
        """Resize the stacks, padding with zeros; without memory for that they stay as they are."""
        if widths == self.widths:
            return
        self.stacks, self.inputs = self._allocate(widths, self.stacks)
        self.widths = widths

    def _allocate(
        self, widths: dict[str, int], before: Arrays = MappingProxyType({})
    ) -> tuple[dict[str, NDArray[np.float32]], Stacks]:
        """Return stacks with the content of `before`, and zeros elsewhere, in host memory and on the device."""
        shapes = {name: _shape(edge, widths) for name, edge in self.edges.items()}
        check_fits(shapes.values(), slots=widths[SLOTS] - 1)
        try:
            arrays = {name: np.zeros(shape, np.float32) for name, shape in shapes.items()}
            for name, stack in before.items():
                arrays[name][tuple(slice(size) for size in stack.shape)] = stack
            return arrays, STACKS[self.device](arrays, self.device)
        except MemoryError as error:
            raise BundleError(f"there is not enough memory for {widths[SLOTS] - 1} slots: take fewer") from error


def _free_slot(count: int, taken: Set[int]) -> int | None:
    """Return the first of `count` slots, behind the base's, that is not taken."""
    return next((slot for slot in range(1, count) if slot not in taken), None)


def _fill(stacks: Arrays, slot: int, tensors: Tensors) -> None:
    """Write the weights of an adapter into a slot of each stack, and zeros where it has none."""
    for name, stack in stacks.items():
        stack[slot] = 0
        if name in tensors:
            values = _as_fed(tensors[name])
            corner = tuple(slice(size) for size in values.shape)
            stack[slot][corner] = values


def _widths(edges: Mapping[str, Edge], adapters: Sequence[Adapter], least: dict[str, int]) -> dict[str, int]:
    """Return sizes of the symbolic dimensions: those of `least`, or larger where `adapters` need it."""
    widths = dict(least)
    for adapter in adapters:
        for name, tensor in adapter.tensors.items():
            if name not in edges:
                raise BundleError(
                    f"adapter {adapter.card.name} ({adapter.card.kind}) adapts {name.rsplit('.', 3)[0]}, "
                    "which this bank's graph has no input for: export a bank with it"
                )
            dims, sizes = edges[name].shape[1:], _as_fed(tensor).shape
            if not _has_shape(sizes, dims):
                taken = " × ".join(map(str, dims))
                raise BundleError(f"adapter {adapter.card.name}: {name} is {tensor.shape}, the graph takes {taken}")
            for dim, size in zip(dims, sizes, strict=True):
                if isinstance(dim, str):
                    widths[dim] = max(widths.get(dim, 1), size)
    return widths


def _shape(edge: Edge, widths: Mapping[str, int]) -> tuple[int, ...]:
    """Return the shape of a stack; a kind of adapter that is absent gets width 1."""
    return tuple(dim if isinstance(dim, int) else widths.get(dim, 1) for dim in edge.shape)


def _has_shape(sizes: Sequence[int], dims: Sequence[int | str]) -> bool:
    """Return True if an array of these sizes has the dimensions of an edge, of which symbols are free."""
    return len(sizes) == len(dims) and all(
        isinstance(dim, str) or dim == size for dim, size in zip(dims, sizes, strict=True)
    )


def _as_fed(tensor: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return a weight transposed to (in, out), as the graph multiplies by it; a bias unchanged."""
    return tensor.T if tensor.ndim == 2 else tensor
