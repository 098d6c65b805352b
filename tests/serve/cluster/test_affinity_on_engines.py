"""Routing to real engines: how often their banks write an adapter into a slot, and what they answer."""

import dataclasses
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from serve.classification.classifier import Classifier
from serve.cluster.affinity import preferred
from tests.serve.conftest import SITE, Reference, reference, write_adapter, write_bundle

__all__ = ["reference"]
pytestmark = pytest.mark.slow

TENANTS, REQUESTS, SLOTS = 2_000, 4_000, 64
TEXT, IDS = "good bad", [1, 4, 5, 2]
Route = Callable[[str, list[str]], str]


@pytest.fixture(scope="module")
def tenants(tmp_path_factory: pytest.TempPathFactory, reference: Reference) -> dict[str, Reference]:
    """Adapters by their folders, each with weights of its own."""
    root, draw = tmp_path_factory.mktemp("tenants"), np.random.default_rng(7)
    bias, found = "classifier.head.bias", {}
    for number in range(TENANTS):
        weights = {**reference.adapters["tone"], bias: draw.normal(size=2).astype(np.float32)}
        weights[f"{SITE}.lora.down.weight"] = draw.normal(size=(2, 6)).astype(np.float32)
        one = dataclasses.replace(reference, adapters={"tone": weights})
        write_adapter(root / f"tenant{number}", one, "tone", name=f"tenant{number}")
        found[str(root / f"tenant{number}")] = one
    return found


def writes_of(route: Route, replicas: int, tenants: dict[str, Reference], bundle: Path) -> int:
    """Send requests whose tenants follow Zipf's law, check each answer, and return the adapters put into slots."""
    engines = {
        f"replica{number}": Classifier(bundle, provider="cpu", threads=1, streams=1, slots=SLOTS, cache=None)
        for number in range(replicas)
    }
    before = sum(one.bank.slot_writes for one in engines.values() if one.bank)
    folders = list(tenants)
    popularity = 1.0 / np.arange(1, TENANTS + 1)
    drawn = np.random.default_rng(1).choice(TENANTS, REQUESTS, p=popularity / popularity.sum())
    for number in drawn:
        name = f"tenant{number}"
        engine = engines[route(name, list(engines))]
        if name not in engine.cards:
            engine.load(folders[number])
        (found,) = engine([TEXT], adapter=name)
        logits = tenants[folders[number]].logits(IDS, "tone")
        scores = np.exp(logits - logits.max()) / np.exp(logits - logits.max()).sum()
        np.testing.assert_allclose(found.scores, scores, atol=1e-5)
    return sum(one.bank.slot_writes for one in engines.values() if one.bank) - before


@pytest.mark.parametrize(("replicas", "most"), [(2, 0.9), (8, 0.5)])
def test_an_adapters_own_replica_puts_it_into_a_slot_less_often_than_any_replica(
    replicas: int, most: float, tenants: dict[str, Reference], reference: Reference, tmp_path: Path
) -> None:
    """Half as often takes more than two: if slots kept the most popular adapters, requests would miss 0.34 of the time
    by affinity (128 of 2,000 in slots) and 0.42 by chance (64 in each), so that no routing is far below 0.8."""
    bundle = write_bundle(tmp_path / "bundle", reference, ["tone", "intent"])
    draw = np.random.default_rng(2)
    by_chance = writes_of(lambda name, all_of: all_of[draw.integers(len(all_of))], replicas, tenants, bundle)
    by_affinity = writes_of(lambda name, all_of: preferred(name, all_of, {})[0], replicas, tenants, bundle)
    assert by_affinity < most * by_chance, (by_affinity, by_chance)
