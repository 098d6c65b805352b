from dataclasses import replace
from itertools import pairwise

import pytest

from benchmarks.capacity import plan
from benchmarks.capacity.costs import Costs
from benchmarks.capacity.placements import PLACEMENTS, Affinity, _order
from benchmarks.capacity.simulation import Replica, simulate
from benchmarks.capacity.traffic import RANKS, Request, poisson, tenants_of

COSTS = Costs(run=1.0, token=0.1, token_rank=0.01, slot=0.5, slot_rank=0.0, load=10.0, request=0.25, rank_bytes=100.0)
QUICK = replace(COSTS, run=0.002, token=0.0002, token_rank=0.0, slot=0.0002, load=0.02, request=0.0)


def test_a_request_waits_for_its_adapter_and_for_the_batch_before_it() -> None:
    tenants = tenants_of(2)
    replica = Replica(slots=1, most=2)
    requests = [Request(0.0, 0, 10), Request(1.0, 0, 10), Request(2.0, 1, 5)]
    outcome = simulate(requests, [replica], lambda request, replicas: 0, COSTS, tenants, warm_up=0.0)
    first = 10.0 + 0.5  # loading tenant 0 into its slot
    both = 1.0 + 20 * (0.1 + 8 * 0.01) + 2 * 0.25
    second = 10.0 + 0.5  # tenant 1, whose load comes after the batch
    alone = 1.0 + 5 * (0.1 + 8 * 0.01) + 0.25
    ends = [first + both, first + both, first + both + second + alone]
    waits = sorted(end - one.time for end, one in zip(ends, requests, strict=True))
    assert outcome.p50 == pytest.approx(waits[1])
    assert (replica.loads, replica.slot_writes, replica.outstanding) == (2, 2, 0)
    assert replica.worked == pytest.approx(ends[-1])


def test_an_adapter_that_was_not_used_for_longest_loses_its_slot_and_is_forgotten() -> None:
    replica = Replica(slots=2, most=3)
    for tenant in (0, 1, 2, 3):
        replica.hold(tenant, 8)
    assert (list(replica.loaded), list(replica.in_slots)) == ([1, 2, 3], [2, 3])


def test_a_batch_holds_no_more_padded_tokens_than_the_servers_own() -> None:
    replica = Replica(slots=1, most=1)
    replica.hold(0, 8)
    for tokens in (100, 200, 300):
        replica.arrive(Request(0.0, 0, tokens))
    _, batch = replica.begin(COSTS, tenants_of(1))
    assert [one.tokens for one in batch] == [100, 200]


def test_all_work_is_done_whatever_the_placement() -> None:
    tenants = tenants_of(50, RANKS)
    requests = poisson(tenants, 200.0, 5.0, [10, 20])
    for make in PLACEMENTS.values():
        fleet = [Replica(slots=4, most=8) for _ in range(5)]
        outcome = simulate(requests, fleet, make(tenants, 5), QUICK, tenants, warm_up=0.0)
        assert sum(one.outstanding for one in fleet) == 0
        assert 0 < outcome.p50 <= outcome.p99


def test_the_same_seed_gives_the_same_outcome() -> None:
    tenants = tenants_of(200)
    found = [plan.run("affinity", tenants, 300.0, 4, QUICK, [10, 20], seconds=4.0) for _ in range(2)]
    assert found[0] == found[1]


def test_affinity_sends_an_adapter_past_replicas_that_have_more_than_their_share() -> None:
    place, fleet = Affinity(), [Replica(slots=1, most=1) for _ in range(8)]
    request = Request(0.0, 3, 10)
    home, second = list(_order(3, range(8)))[:2]
    assert place(request, fleet) == home
    fleet[home].outstanding = 4
    assert place(request, fleet) == second


def test_an_order_has_every_replica_once() -> None:
    for count in (1, 2, 7, 12):
        for tenant in range(20):
            assert sorted(_order(tenant, range(count))) == list(range(count))


def test_ranks_have_replicas_of_their_own() -> None:
    tenants = tenants_of(2_000, RANKS)
    place = PLACEMENTS["affinity by rank"](tenants, 8)
    assert isinstance(place, Affinity)
    assert set(place.groups) == set(RANKS)
    assert {index for group in place.groups.values() for index in group} == set(range(8))


def test_popularity_follows_zipf() -> None:
    shares = tenants_of(1_000).shares
    assert shares.sum() == pytest.approx(1)
    assert shares[0] == pytest.approx(10 * shares[9])


def test_affinity_writes_fewer_adapters_into_slots_than_random_placement() -> None:
    tenants = tenants_of(2_000)
    writes = {
        name: plan.run(name, tenants, 300.0, 8, QUICK, [10, 20], slots=64, most=256, seconds=20.0).slot_writes
        for name in ("random", "affinity")
    }
    assert writes["affinity"] < 0.5 * writes["random"]


def test_a_plan_is_the_smallest_fleet_within_the_limit() -> None:
    fleet = plan.plan(100, 300.0, QUICK, [10, 20])
    assert fleet.outcome.p99 <= plan.P99_LIMIT
    assert fleet.host_bytes == 200 * 8 * QUICK.rank_bytes
    assert fleet.replicas >= 300.0 * QUICK.batch([15], width=8, slot_writes=0)


def test_poisson_arrivals_have_their_rate() -> None:
    requests = poisson(tenants_of(10), 500.0, 20.0, [7])
    assert len(requests) == pytest.approx(10_000, rel=0.05)
    assert all(before.time <= after.time for before, after in pairwise(requests))
