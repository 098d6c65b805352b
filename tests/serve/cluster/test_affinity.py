from collections import Counter

from serve.cluster.affinity import order, preferred

REPLICAS = [f"r{number}" for number in range(8)]


def test_an_order_does_not_depend_on_that_of_the_replicas() -> None:
    assert order("acme", REPLICAS) == order("acme", REPLICAS[::-1])
    assert sorted(order("acme", REPLICAS)) == REPLICAS


def test_adapters_are_spread_over_the_replicas() -> None:
    homes = Counter(order(f"tenant{number}", REPLICAS)[0] for number in range(4_000))
    assert all(400 < count < 600 for count in homes.values())


def test_a_replica_that_goes_moves_its_own_adapters_alone() -> None:
    for number in range(200):
        before, after = order(f"tenant{number}", REPLICAS), order(f"tenant{number}", REPLICAS[:-1])
        assert after == [one for one in before if one != "r7"]


def test_a_replica_below_its_bound_keeps_its_adapters() -> None:
    home = order("acme", REPLICAS)[0]
    assert preferred("acme", REPLICAS, {home: 3})[0] == home


def test_requests_go_past_replicas_that_have_more_than_their_share() -> None:
    ordered = order("acme", REPLICAS)
    loads = {ordered[0]: 9, ordered[1]: 4}  # the mean is 1.6, the bound 4
    assert preferred("acme", REPLICAS, loads) == [*ordered[2:], ordered[1], ordered[0]]


def test_the_bound_follows_the_load_so_that_busy_replicas_keep_their_adapters() -> None:
    loads = dict.fromkeys(REPLICAS, 20)
    home = order("acme", REPLICAS)[0]
    assert preferred("acme", REPLICAS, loads)[0] == home
    loads[home] = 30  # the mean is 21.25, the bound 27.6
    assert preferred("acme", REPLICAS, loads)[0] == order("acme", REPLICAS)[1]


def test_no_replicas_is_an_empty_order() -> None:
    assert preferred("acme", [], {}) == []
