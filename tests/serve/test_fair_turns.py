from serve.fair_turns import FairTurns


def test_turns_share_work_out_and_not_requests() -> None:
    turns, taken = FairTurns(), []
    for tenant in ("long", "short"):
        turns.join(tenant, [])
    for _ in range(8):
        tenant = turns.least(["long", "short"])
        turns.charge(tenant, 30 if tenant == "long" else 10)
        taken.append(tenant)
    assert taken == ["short", "long", "short", "short", "short", "long", "short", "short"]


def test_one_that_comes_later_has_saved_up_nothing_and_owes_nothing() -> None:
    turns = FairTurns()
    turns.join("busy", [])
    for _ in range(5):
        turns.charge(turns.least(["busy"]), 10)
    turns.join("new", ["busy"])
    assert turns.had == {"busy": 50, "new": 50}
    assert turns.least(["busy", "new"]) == "new"
    turns.charge("new", 100)
    turns.join("other", ["busy"])  # those that wait have the least
    assert turns.had["other"] == 50


def test_a_tenant_keeps_what_it_has_had_while_nobody_waits() -> None:
    turns = FairTurns()
    turns.join("greedy", [])
    turns.charge(turns.least(["greedy"]), 100)
    turns.join("modest", [])
    turns.join("greedy", ["modest"])
    assert turns.least(["greedy", "modest"]) == "modest"


def test_small_differences_leave_the_order_as_it_is() -> None:
    turns = FairTurns()
    for tenant, work in (("first", 12), ("second", 4)):
        turns.join(tenant, [])
        turns.charge(tenant, work)
    assert turns.oldest(["first", "second"], 10) == "first"
    assert turns.oldest(["first", "second"], 7) == "second"
