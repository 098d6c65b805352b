"""Facts of the server's bundles and adapters, as its HTTP API tells them."""

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from demos.page.server_client import PageError, ServerClient

MISSING = (404, 405)
"""Statuses of a route that the server does not have."""


@dataclass(frozen=True, kw_only=True)
class BundleFacts:
    """One bundle."""

    base: str
    """Name of the base model."""
    base_sha256: str
    """Hash of its weights."""
    model_type: str
    task: str
    shape: str
    precision: str
    provider: str
    slots: int | None
    graph_bytes: int | None
    """Bytes of the graph with the base's weights; None if the server does not say."""


@dataclass(frozen=True, kw_only=True)
class AdapterFacts:
    """One adapter."""

    name: str
    bundle: BundleFacts
    kind: str
    labels: list[str]
    pairs: bool
    sha256: str
    max_length: int
    metrics: Mapping[str, float]
    parity: Mapping[str, Any] | None
    """Comparison with PyTorch; None for an adapter that has none."""
    rank: int | None = None
    num_modules: int | None = None
    """Modules of the mixture that it is the mean of; None if the server does not say."""
    module_distances: Sequence[float] = ()
    """Distance of each module from their mean, as a share of its norm; empty if it was not measured."""
    record_fields: Sequence[str] = ()
    """Fields of the records that it writes texts from; empty for others."""
    member_parity: Sequence[Mapping[str, Any]] = ()
    """Comparison with PyTorch of each of these modules, in order; empty where they are not in the bundle."""
    state: Mapping[str, Any] = field(default_factory=dict)
    """Entry of `/v1/adapters`; empty for a server without that route."""

    @property
    def is_classifier(self) -> bool:
        """True if it has labels, or is a regression."""
        return bool(self.labels)

    @property
    def size_bytes(self) -> int | None:
        """Bytes of its weights; None if the server does not say."""
        return self.state.get("size_bytes")


@dataclass(frozen=True, kw_only=True)
class Catalog:
    """All that a server has."""

    bundles: list[BundleFacts]
    adapters: dict[str, AdapterFacts]
    generators: list[str]
    """Names of the models that generate text, the base first."""
    others: list[Mapping[str, Any]]
    """Entries of `/v1/adapters` that are not served: available or failed."""
    max_texts: int
    """Most texts in one request."""

    @property
    def classifiers(self) -> list[str]:
        """Names of the adapters that classify."""
        return [name for name, adapter in self.adapters.items() if adapter.is_classifier]


async def read_catalog(client: ServerClient) -> Catalog:
    """Return what a server has at this moment.

    Raises:
        PageError: It does not answer, or is another kind of server.
    """
    info, models, states = await asyncio.gather(client.get("/info"), client.get("/v1/models"), _states(client))
    try:
        return _catalog(info, models["data"], states)
    except (KeyError, TypeError, AttributeError) as error:
        raise PageError(f"What answers at {client.address} is not adamix-serve.") from error


async def _states(client: ServerClient) -> list[dict[str, Any]]:
    """Return the entries of `/v1/adapters`; none from a server without that route."""
    try:
        return list((await client.get("/v1/adapters"))["data"])
    except PageError as error:
        if error.status in MISSING:
            return []
        raise


def _catalog(info: dict[str, Any], models: list[dict[str, Any]], states: list[dict[str, Any]]) -> Catalog:
    by_name = {one["name"]: one for one in states if one["served"]}
    bundles, adapters = [], {}
    for part in info.get("bundles", [info]):
        bundle = _bundle(part)
        bundles.append(bundle)
        for name, facts in part["adapters"].items():
            members = [one for one in part.get("members", {}).values() if one["member_of"] == name]
            adapters[name] = _adapter(name, facts, bundle, by_name.get(name, {}), members)
    generators = [one["id"] for one in models if one["prompt"] is not None and one["parent"] not in adapters]
    return Catalog(
        bundles=bundles,
        adapters=adapters,
        generators=sorted(generators, key=lambda name: name in adapters),
        others=[one for one in states if not one["served"]],
        max_texts=info["max_client_batch_size"],
    )


def _bundle(part: dict[str, Any]) -> BundleFacts:
    return BundleFacts(
        base=part["base"]["name"],
        base_sha256=part["base"]["sha256"],
        model_type=part["base"]["model_type"],
        task=part["task"],
        shape=part["shape"],
        precision=part["precision"],
        provider=part["provider"].removesuffix("ExecutionProvider"),
        slots=part["slots"],
        graph_bytes=part.get("graph_bytes"),
    )


def _adapter(
    name: str, facts: dict[str, Any], bundle: BundleFacts, state: dict[str, Any], members: Sequence[dict[str, Any]]
) -> AdapterFacts:
    return AdapterFacts(
        name=name,
        bundle=bundle,
        kind=facts["kind"],
        labels=facts["labels"],
        pairs=facts["pairs"],
        sha256=facts["sha256"],
        max_length=facts["max_length"],
        metrics=facts["metrics"],
        parity=facts["parity"],
        rank=facts.get("rank"),
        num_modules=facts.get("num_modules"),
        module_distances=facts.get("module_distances", ()),
        record_fields=facts.get("record_fields", ()),
        member_parity=[one["parity"] for one in members if one["parity"]],
        state=state,
    )
