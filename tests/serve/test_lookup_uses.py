from collections import Counter

from serve.lookup_uses import LookupUses


def test_what_is_in_use_is_not_released() -> None:
    uses = LookupUses()
    uses.begin(Counter({"a": 2}))
    assert not uses.release("a")
    assert not uses.is_leaving("a")
    uses.end(Counter({"a": 1}))
    assert not uses.release("a")
    uses.end(Counter({"a": 1}))
    assert uses.release("a")
    assert uses.is_leaving("a"), "the next request looks it up"
    uses.stay("a")
    assert not uses.is_leaving("a")


def test_last_uses_are_kept_for_those_that_are_there() -> None:
    uses = LookupUses()
    uses.note(["a", "b"])
    first = uses.last["a"]
    uses.note(["a"])
    assert uses.last["a"] >= first
    uses.forget_but({"a"})
    assert list(uses.last) == ["a"]
