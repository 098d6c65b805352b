"""The stacked weights of adapters, bound to the bank graph's inputs; slot 0 is all zeros: the base model.

Slots are a cache. Any number of adapters can be served: those of a batch are placed before it runs, into the slots that
were used least recently, from host memory or from disk.
"""

import threading
from collections import Counter, OrderedDict
from collections.abc import Iterator, Mapping, Sequence, Set
from contextlib import contextmanager

import numpy as np
import onnxruntime as ort
from numpy.typing import NDArray

from serve.bundle.adapter import Adapter
from serve.bundle.manifest import Edge
from serve.errors import BundleError
from serve.runtime.buffers import HOST

PREFIX = "bank."
SLOTS = "slots"
BASE_SLOT = 0


class Bank:
    """One stack (1 + slots, …) an input of the graph.

    A stack is as wide as the widest of its adapters: a smaller rank and a shorter list of labels are padded with zeros,
    which is exact, since a zero column of `down` stays zero through the activation and meets a zero row of `up`. One
    that comes later and is wider widens the stacks.

    Runs may overlap: `using` keeps the adapters of a batch in their slots until it has run, and waits for a slot if all
    are in use.
    """

    def __init__(
        self,
        edges: Sequence[Edge],
        adapters: Sequence[Adapter],
        *,
        device: str = HOST,
        slots: int | None = None,
        held: int | None = None,
    ) -> None:
        """Make room for `slots` adapters, by default all of `adapters`, and place as many of them as fit.

        The weights of the `held` that were used last stay in host memory (None: of all); the others are read again.
        """
        self.device, self.held = device, held
        self.change = threading.Condition()
        self.in_use: Counter[str] = Counter()
        """How many runs need an adapter to stay in its slot, by its sha256."""
        self.edges = {edge.name.removeprefix(PREFIX): edge for edge in edges if edge.name.startswith(PREFIX)}
        self.slots: OrderedDict[str, int] = OrderedDict()
        """The slot of each adapter that is placed, by its sha256, the one used least recently first."""
        self.placed = 0
        """How often an adapter was written into a slot."""
        self.in_host: OrderedDict[str, Adapter] = OrderedDict()
        count = len(adapters) if slots is None else slots
        self.widths = self._widths(adapters, {SLOTS: 1 + count})
        self.stacks = self._zeros(self.widths)
        self.feeds = self._on_device()
        """The inputs of every run, on the device."""
        for adapter in adapters[count:]:
            self._hold(adapter)
        for adapter in adapters[:count]:
            self.place([adapter])

    @property
    def room(self) -> int:
        """How many adapters are placed at a time."""
        return self.widths[SLOTS] - 1

    @contextmanager
    def using(self, adapters: Sequence[Adapter]) -> Iterator[tuple[NDArray[np.int64], dict[str, ort.OrtValue]]]:
        """Yield the slot of each adapter (adapters,) and the inputs that hold them, which stay so until the block ends.

        There may be at most `room` different ones; `batches` cuts a list so.
        """
        wanted = {adapter.card.sha256: adapter for adapter in adapters if not adapter.empty}
        with self.change:
            self.change.wait_for(lambda: len(self.in_use.keys() | wanted.keys()) <= self.room)
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

    def has_room(self, adapter: Adapter) -> bool:
        """Return whether `using` an adapter would not have to wait."""
        with self.change:
            return adapter.empty or len(self.in_use.keys() | {adapter.card.sha256}) <= self.room

    def place(self, adapters: Sequence[Adapter]) -> NDArray[np.int64]:
        """Return the slot of each adapter (adapters,), after writing those that have none."""
        with self.using(adapters) as (slots, _):
            return slots

    def _place(self, wanted: Mapping[str, Adapter]) -> None:
        """Give all of `wanted` a slot; those in use keep theirs."""
        for sha256 in wanted.keys() & self.slots.keys():
            self.slots.move_to_end(sha256)
            if wanted[sha256].in_memory:
                self._hold(wanted[sha256])
        for sha256 in wanted.keys() - self.slots.keys():
            self._write_new(wanted[sha256], kept=wanted.keys() | self.in_use.keys())

    def batches(self, adapters: Sequence[Adapter]) -> Iterator[list[int]]:
        """Yield indices of `adapters`, cut so that each part has slots for all of its own."""
        if len({adapter.card.sha256 for adapter in adapters}) <= self.room:
            yield list(range(len(adapters)))
            return
        if not self.room:
            raise BundleError("the bank has no slot: serve it with at least one")
        part: list[int] = []
        different: set[str] = set()
        for index in sorted(range(len(adapters)), key=lambda index: adapters[index].card.sha256):
            sha256 = adapters[index].card.sha256
            if sha256 not in different and len(different) == self.room:
                yield part
                part, different = [], set()
            part.append(index)
            different.add(sha256)
        yield part

    def remove(self, adapter: Adapter) -> None:
        """Forget an adapter that is not served any more; its slot is the next that is taken."""
        with self.change:
            self.in_host.pop(adapter.card.sha256, None)
            if adapter.card.sha256 in self.slots:
                self.slots.move_to_end(adapter.card.sha256, last=False)

    def _write_new(self, adapter: Adapter, *, kept: Set[str]) -> None:
        """Write an adapter into a free slot, or into that of the one used least recently that need not be kept."""
        self._widen(self._widths([adapter], self.widths))
        free = set(range(1, self.widths[SLOTS])) - set(self.slots.values())
        slot = min(free) if free else self.slots.pop(next(sha256 for sha256 in self.slots if sha256 not in kept))
        self._write(slot, adapter)
        self.slots[adapter.card.sha256] = slot
        self.placed += 1
        self._hold(adapter)

    def _hold(self, adapter: Adapter) -> None:
        """Keep the weights of the adapters that were used last in host memory, and no more than `held`."""
        before = self.in_host.pop(adapter.card.sha256, adapter)
        if before is not adapter:
            before.forget()  # the same weights by another name
        self.in_host[adapter.card.sha256] = adapter
        while self.held is not None and len(self.in_host) > self.held:
            self.in_host.popitem(last=False)[1].forget()

    def _widen(self, widths: dict[str, int]) -> None:
        """Give the stacks other widths, padded with zeros; without memory for that they stay as they are."""
        if widths == self.widths:
            return
        wide = self._zeros(widths)
        for name, stack in self.stacks.items():
            wide[name][tuple(slice(size) for size in stack.shape)] = stack
        self.widths, self.stacks = widths, wide
        self.feeds = self._on_device()

    def _zeros(self, widths: dict[str, int]) -> dict[str, NDArray[np.float32]]:
        """Return empty stacks; a kind that no adapter has gets width 1."""
        try:
            return {
                name: np.zeros([dim if isinstance(dim, int) else widths.get(dim, 1) for dim in edge.shape], np.float32)
                for name, edge in self.edges.items()
            }
        except MemoryError as error:
            raise BundleError(f"there is not enough memory for {widths[SLOTS] - 1} slots: take fewer") from error

    def _on_device(self) -> dict[str, ort.OrtValue]:
        """Return the stacks as inputs; on a processor these are the arrays themselves."""
        return {
            PREFIX + name: ort.OrtValue.ortvalue_from_numpy(stack, self.device, 0)
            for name, stack in self.stacks.items()
        }

    def _widths(self, adapters: Sequence[Adapter], least: dict[str, int]) -> dict[str, int]:
        """Return the sizes of the symbolic dimensions: those of `least`, or those that `adapters` need."""
        widths = dict(least)
        for adapter in adapters:
            for name, tensor in adapter.tensors.items():
                if name not in self.edges:
                    raise BundleError(
                        f"adapter {adapter.card.name} ({adapter.card.kind}) adapts {name.rsplit('.', 3)[0]}, "
                        "which this bank's graph has no input for: export a bank with it"
                    )
                for dim, size in zip(self.edges[name].shape[1:], _as_fed(tensor).shape, strict=True):
                    if isinstance(dim, str):
                        widths[dim] = max(widths.get(dim, 1), size)
                    elif dim != size:
                        raise BundleError(
                            f"adapter {adapter.card.name}: {name} is {tensor.shape}, the graph takes {dim}"
                        )
        return widths

    def _write(self, slot: int, adapter: Adapter) -> None:
        tensors = adapter.tensors
        for name, stack in self.stacks.items():
            stack[slot] = 0
            if name in tensors:
                values = _as_fed(tensors[name])
                corner = tuple(slice(size) for size in values.shape)
                stack[slot][corner] = values
            if self.device != HOST:
                self.feeds[PREFIX + name].update_inplace(stack)


def _as_fed(tensor: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return a weight as (in, out), which the graph multiplies by without transposing; a bias as it is."""
    return tensor.T if tensor.ndim == 2 else tensor
