from serve.telemetry.adapter_labels import AdapterLabels


def test_the_adapters_that_were_used_first_have_labels_of_their_own() -> None:
    labels = AdapterLabels(2)
    assert [labels.of(name) for name in ("a", "b", "c", "a", "d")] == ["a", "b", "other", "a", "other"]


def test_adapters_that_were_not_used_get_labels_only_if_there_are_enough_for_all() -> None:
    labels = AdapterLabels(3)
    labels.add_all(["a", "b"])
    assert labels.names == {"a", "b"}
    labels.add_all(["a", "b", "c", "d"])
    assert labels.names == {"a", "b"}
    assert [labels.of(name) for name in ("c", "d")] == ["c", "other"]
