"""A bundle opened on a device: its sessions and its bank, which every engine stands on."""

import itertools
import logging
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, TypedDict

import onnxruntime as ort

from serve.adapters.bank import Bank
from serve.adapters.registry import Registry
from serve.bundle.adapter import Adapter, AdapterCard
from serve.bundle.config import context_length, eos_token_ids, vocab_size
from serve.bundle.manifest import FP32
from serve.bundle.reader import Bundle, open_bundle
from serve.bundle.tokenizer_config import chat_templates, readable_config
from serve.engine import EngineInfo, EngineStats, ModelInfo, ResidentAdapters
from serve.errors import BundleError
from serve.runtime.device_memory import CUDA_DEVICE, HOST
from serve.runtime.gpu_fit import choose_device
from serve.runtime.graph_check import check_edges, check_logits
from serve.runtime.providers import CUDA, ProviderChoice
from serve.runtime.session import captures_graphs, open_session

logger = logging.getLogger(__name__)

CONFIGURATION: tuple[Callable[[Bundle], object], ...] = (
    context_length,
    eos_token_ids,
    vocab_size,
    chat_templates,
    readable_config,
)
"""Facts of the base's configurations, which are read when a bundle is opened so that a wrong one is refused then."""


class LoadOptions(TypedDict, total=False):
    """Keyword arguments of `LoadedModel`, which every engine passes on."""

    provider: str
    threads: int | None
    slots: int | None
    host_adapters: int | None
    cache: Path | None
    pins: Collection[str]


class LoadedModel:
    """A bundle, its ONNX Runtime sessions, and the bank of its adapters."""

    def __init__(
        self,
        bundle: Bundle | Path | str,
        *,
        provider: str = "auto",
        threads: int | None = None,
        slots: int | None = None,
        host_adapters: int | None = None,
        cache: Path | None = None,
        pins: Collection[str] = (),
    ) -> None:
        """Open a bundle, or the one in a folder.

        Args:
            bundle: A bundle or its folder.
            provider: A key of `runtime.providers.PROVIDERS`; "auto" takes a GPU where there is one.
            threads: Threads of a run on the CPU; None takes all usable cores.
            slots: Adapters on the device at a time; None takes those of the bundle and its spare slots.
            host_adapters: Adapters with their weights in host memory, others are read from disk again; None keeps all.
            cache: Folder for optimised graphs; None keeps none.
            pins: Names of adapters that keep their slots, also of those that are loaded later.

        Raises:
            BundleError: A file is missing, changed, or does not fit.
            ProviderError: The requested provider cannot run the bundle.
        """
        self.bundle = _opened(bundle)
        self.graph_bytes, self.threads, self.cache, self.pins = self.bundle.graph_bytes(), threads, cache, pins
        self.may_capture = True
        """Sessions on CUDA capture their runs as CUDA graphs where the graph allows it."""
        chosen = choose_device(self.bundle, provider, slots=slots)
        self.choice, manifest = chosen.choice, self.bundle.manifest
        packed = self.bundle.packed if self.choice.provider == CUDA else None
        self.graph = packed or self.bundle.model
        """ONNX file that runs: without padding on CUDA, where the bundle has such a graph."""
        self.session = self.open_session()
        if self.provider != self.choice.provider:
            self.choice = ProviderChoice(self.provider, "as for the first graph")
        self.gpu = chosen.gpu if self.provider == CUDA else None
        """The GPU that runs the graph; None on the CPU."""
        self.capture_numbers = itertools.count()
        """Numbers of captured runs."""
        check_edges(self.session, self.graph, manifest.inputs, manifest.outputs, manifest.optional_inputs)
        check_logits(self.graph, manifest.outputs)
        self.encoder: ort.InferenceSession | None = None
        """The encoder's session; None for a model of one graph."""
        if self.bundle.encoder is not None:
            self.encoder = self._session(self.bundle.encoder, threads=threads)
            check_edges(self.encoder, self.bundle.encoder, manifest.encoder_inputs, manifest.encoder_outputs)
        self.bank = self._bank(slots, host_adapters) if manifest.shape == "bank" else None

    @property
    def provider(self) -> str:
        """The execution provider that runs the graph."""
        return self.session.get_providers()[0]

    @property
    def captures(self) -> bool:
        """The session captures its runs as CUDA graphs."""
        return self.may_capture and captures_graphs(self.session)

    @property
    def device(self) -> str:
        """The kind of device that the provider runs on."""
        return CUDA_DEVICE if self.provider == CUDA else HOST

    def open_session(self, *, threads: int | None = None, reason: str | None = None) -> ort.InferenceSession:
        """Return another session over the model's graph; `reason` is logged in the place of the provider's own."""
        threads = threads or self.threads
        try:
            return self._session(self.graph, threads=threads, reason=reason)
        except BundleError:
            if self.graph == self.bundle.model:
                raise
            session = self._session(self.bundle.model, threads=threads, reason=reason)
            if session.get_providers()[0] == CUDA:
                raise  # CUDA runs, so that the packed graph itself is at fault
            self.graph = self.bundle.model
            return session

    def stop_capturing(self, reason: str) -> None:
        """Open the graph's session again, without captured runs, and log the reason."""
        logger.warning("the runs of %s are not captured in CUDA graphs: %s", self.graph.name, reason)
        self.may_capture = False
        del self.session  # its memory on the device is needed for the next one
        self.session = self.open_session()

    def registry(self, check_canaries: Callable[[Sequence[Adapter]], None]) -> Registry:
        """Return the registry of the bundle's adapters, each checked by `check_canaries`."""
        return Registry(self.bundle, self.bank, check_canaries, pins=self.pins)

    def info(self) -> EngineInfo:
        """Return the facts of the bundle."""
        manifest = self.bundle.manifest
        return EngineInfo(
            task=manifest.task,
            shape=manifest.shape,
            precision=manifest.precision,
            provider=self.provider,
            device=self.gpu,
            slots=self.bank.capacity if self.bank else None,
            base=manifest.base,
            versions=manifest.versions,
            graph=self.graph.name,
            graph_bytes=self.graph_bytes,
        )

    def model_info(self, card: AdapterCard, *, is_base: bool = False) -> ModelInfo:
        """Return the public facts of an adapter, or of the base model."""
        return ModelInfo(
            name=card.name,
            sha256=card.sha256,
            kind=card.kind,
            labels=card.labels,
            pairs=card.pairs,
            regression=card.regression,
            max_length=card.max_length,
            metrics=card.metrics,
            parity=self._parity(card),
            rank=None if is_base else card.r,
            num_modules=None if is_base else card.num_modules,
            module_distances=tuple(card.module_distances),
            record_fields=tuple(card.record_fields),
            is_base=is_base,
            member_of=card.member_of,
        )

    def _parity(self, card: AdapterCard) -> Mapping[str, Any] | None:
        """Return the comparison with PyTorch: the bundle's, or that of an adapter that was exported by itself."""
        own = self.bundle.adapters.get(card.name)
        if own is None or own.card.sha256 == card.sha256:
            return self.bundle.manifest.parity.get(card.name) or card.parity or None
        return card.parity or None

    def stats(self, cards: Mapping[str, AdapterCard], **counts: Any) -> EngineStats:
        """Return an engine's own `counts` with those of the bank."""
        stats = EngineStats(adapters=len(cards), **counts)
        if self.bank is None:
            return stats
        return replace(
            stats,
            slots=self.bank.capacity,
            slot_writes=self.bank.slot_writes,
            host_adapters=len(self.bank.host_adapters),
        )

    def resident_adapters(self, cards: Mapping[str, AdapterCard]) -> ResidentAdapters:
        """Return adapters by where their weights are; those that have been unloaded are left out."""
        if self.bank is None:
            return ResidentAdapters(in_slots=list(cards))
        names: dict[str, list[str]] = {}
        for name, card in cards.items():
            names.setdefault(card.sha256, []).append(name)
        in_slots, in_host = self.bank.resident
        return ResidentAdapters(
            in_slots=[name for sha256 in in_slots for name in names.get(sha256, ())],
            in_host=[name for sha256 in in_host for name in names.get(sha256, ())],
        )

    def _session(self, graph: Path, *, threads: int | None, reason: str | None = None) -> ort.InferenceSession:
        choice = self.choice if reason is None else replace(self.choice, reason=reason)
        hashes = self.bundle.hashes(graph)
        capture = self.may_capture and graph == self.bundle.model
        exact = self.bundle.manifest.precision == FP32
        return open_session(
            graph, choice, threads=threads, cache=self.cache, hashes=hashes, capture=capture, exact=exact
        )

    def _bank(self, slots: int | None, host_adapters: int | None) -> Bank:
        manifest, adapters = self.bundle.manifest, list(self.bundle.adapters.values())
        return Bank(
            [*manifest.inputs, *manifest.encoder_inputs],
            adapters,
            device=self.device,
            slots=len(adapters) + manifest.spare_slots if slots is None else slots,
            max_host_adapters=host_adapters,
        )


def _opened(bundle: Bundle | Path | str) -> Bundle:
    """Return a bundle, or the one in a folder, whose configurations can be read."""
    opened = bundle if isinstance(bundle, Bundle) else open_bundle(Path(bundle))
    for read in CONFIGURATION:
        read(opened)
    return opened
