from collections.abc import Callable, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from benchmarks import cold_start
from benchmarks.peers import Peer
from benchmarks.support.errors import PeerError
from benchmarks.support.report import Absent
from benchmarks.support.rounds import Timing
from benchmarks.support.server_sides import LITSERVE

pytestmark = pytest.mark.usefixtures("peer_versions")


def test_the_slowest_bundle_is_held_against_the_goals_of_a_start() -> None:
    timings = {
        "merged, first": Timing([2.0]),
        "merged, again": Timing([1.0]),
        "bank, first": Timing([3.5]),
        "bank, again": Timing([1.2]),
        LITSERVE: Timing([2.4]),
    }
    findings = cold_start.findings_of(timings, [])
    assert [(goal.what, goal.value, goal.met) for goal in findings.goals] == [
        ("seconds to the first response, bank, first", 3.5, False),
        ("seconds to the first response, bank, again", 1.2, True),
    ]
    assert findings.worst == "0.500 of LitServe's start"


def test_a_server_that_ends_is_an_error_with_its_last_line() -> None:
    with pytest.raises(PeerError, match="no such bundle"):
        cold_start.start(lambda port: ["python3", "-c", "import sys; sys.exit('no such bundle')"], {})


def test_a_bundle_starts_without_a_cache_and_again_with_the_one_it_left(monkeypatch: pytest.MonkeyPatch) -> None:
    started: list[tuple[str, bool, str, int]] = []

    def bundle(content: str, out: Path) -> SimpleNamespace:
        out.mkdir()
        (out / "content").write_text(content)
        return SimpleNamespace(folder=out, tokenizer=out / "tokenizer.json")

    def exported(sources: Sequence[object], shape: str, out: Path) -> SimpleNamespace:
        return bundle(shape, out)

    def start(command: Callable[[int], list[str]], body: Any) -> float:
        words = command(8000)
        cache = Path(words[words.index("--cache") + 1])
        content = (Path(words[words.index("serve.cli") + 1]) / "content").read_text()
        started.append((content, cache.is_dir(), body["adapter"], words.count("--adapter")))
        cache.mkdir(exist_ok=True)
        return float(len(started))

    def require(self: Peer) -> None:
        raise PeerError("not installed: make peers")

    monkeypatch.setattr(Peer, "require", require)
    monkeypatch.setattr(cold_start, "trained", lambda kind, out: SimpleNamespace(name="mood"))
    monkeypatch.setattr(cold_start, "exported", exported)
    monkeypatch.setattr(cold_start, "in_int8", lambda merged, out: bundle("int8", out))
    monkeypatch.setattr(cold_start, "like", lambda bank, count, folder: [folder / f"a{i}" for i in range(count)])
    monkeypatch.setattr(cold_start, "start", start)
    findings = cold_start.measure_starts(2)
    bundles = [("merged", "mood", 0), ("int8", "mood", 0), ("bank", "a7", 8)]
    once = [(name, cached, adapter, beside) for name, adapter, beside in bundles for cached in (False, True)]
    assert started == once * 2
    assert [(row["server"], row["seconds"]) for row in findings.rows] == [
        ("merged, first", 4.0),
        ("merged, again", 5.0),
        ("merged int8, first", 6.0),
        ("merged int8, again", 7.0),
        ("bank of 9, first", 8.0),
        ("bank of 9, again", 9.0),
    ]
    assert findings.absent == [Absent(peer="litserve", reason="not installed: make peers")]
    assert findings.worst == "no peer"


def test_no_rounds_are_refused(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(cold_start, "publish", lambda *_, **__: None)
    with pytest.raises(SystemExit, match="2"):
        cold_start.main(["--rounds", "0"])
    assert "--rounds must be at least 1" in capsys.readouterr().err
