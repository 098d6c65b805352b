from pathlib import Path

import pytest

from benchmarks import cluster
from benchmarks.support.machine import versions_of
from serve.args import parse_args
from serve.cluster import deploy
from serve.cluster.settings import check_flags


def test_figures_are_medians_of_the_turns(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cluster, "versions_of", lambda packages: versions_of(()))
    turns = {
        (side, clients): [
            cluster.Turn(latencies=[0.01, 0.02, 0.03], rate=rate, processor=0.001 * rate) for rate in (1, 5)
        ]
        for side in cluster.SIDES
        for clients in cluster.CLIENTS
    }
    findings = cluster._findings(turns)
    assert len(findings.rows) == len(turns)
    assert findings.rows[0] == {
        "side": "one process", "clients": 1, "requests_s": 3.0, "p50_ms": pytest.approx(20.0),
        "p99_ms": pytest.approx(29.8), "processor_ms": pytest.approx(3.0),
    }  # fmt: skip
    assert findings.worst.startswith("1.00 of one process's")


@pytest.mark.parametrize("side", cluster.SIDES)
def test_sides_are_command_lines(side: str, tmp_path: Path) -> None:
    words = list(cluster.SIDES[side])
    if words[0] == "deploy":
        args, rest = deploy._parser().parse_known_args(words[1:])
        assert (args.ray, args.min_replicas, args.max_replicas) == ("local", 2, 2)
        words = rest
        check_flags([*words, str(tmp_path)])
    assert parse_args([*words, str(tmp_path)]).bundles == [tmp_path]
