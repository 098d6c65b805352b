from pathlib import Path

import pytest

from serve.cluster.settings import MEANINGLESS, ClusterSettings, as_settings, check_flags, command_line
from serve.errors import ConfigurationError

ARGV = [
    "--slots=4",
    "--adapter-lookup",
    "--pin=a",
    "--pin=b",
    "/bundles/one",
    "/bundles/two",
]


def test_flags_become_settings_and_settings_the_same_flags() -> None:
    cluster = ClusterSettings(max_replicas=3, route_by="body")
    settings = as_settings(cluster, check_flags(ARGV))
    assert settings["bundles"] == ["/bundles/one", "/bundles/two"]
    assert (settings["slots"], settings["pin"], settings["adapter_lookup"]) == (4, ["a", "b"], True)
    found, argv = command_line(settings)
    assert found == cluster
    assert check_flags(argv) == check_flags(ARGV)


def test_paths_are_those_of_every_node(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "adapters").mkdir()
    settings = as_settings(ClusterSettings(), check_flags(["bundle", "--adapter-dir", "adapters"]))
    assert settings["bundles"] == [str(tmp_path / "bundle")]
    assert settings["adapter_dir"] == str(tmp_path / "adapters")


def test_settings_have_the_names_of_flags_too() -> None:
    cluster, argv = command_line({"max-replicas": 2, "no-cache": True, "ensemble": False, "bundles": "/b"})
    assert (cluster.max_replicas, argv) == (2, ["--no-cache", "/b"])


@pytest.mark.parametrize("name", sorted(MEANINGLESS))
def test_flags_that_mean_nothing_on_a_cluster_are_refused_with_what_to_do(name: str) -> None:
    value = [] if name in ("check", "json") else ["2"]
    with pytest.raises(ConfigurationError, match="means nothing on a cluster: "):
        check_flags(["/b", "--" + name.replace("_", "-"), *value])


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"slotz": 3}, "unknown setting --slotz=3: adamix-serve --help"),
        ({"slots": 0}, "settings of the servers: .*0 is not positive"),
        ({"route_by": "luck"}, "--route-by is 'luck'; it takes header or body"),
        ({"min_replicas": 3}, "--min-replicas 3 is more than --max-replicas 1: raise the latter"),
    ],
)
def test_settings_that_are_wrong_are_refused(settings: dict[str, object], message: str) -> None:
    with pytest.raises(ConfigurationError, match=message):
        command_line({**settings, "bundles": ["/b"]})
