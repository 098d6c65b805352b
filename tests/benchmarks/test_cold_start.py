import itertools
import os
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from benchmarks import cold_start
from benchmarks.cold_start import Starts
from benchmarks.peers import Peer
from benchmarks.support import generation_sides
from benchmarks.support.errors import PeerError
from benchmarks.support.processes import memory_of
from benchmarks.support.report import Absent
from benchmarks.support.server_sides import LITSERVE

pytestmark = pytest.mark.usefixtures("peer_versions")


def starts(*seconds: float, size: int = 0, peak: int = 0) -> Starts:
    made = Starts(size=size)
    for one in seconds:
        made.add(one, peak, peak // 2)
    return made


def test_the_slowest_bundle_is_held_against_the_goals_of_a_start_and_the_largest_against_that_of_memory() -> None:
    found = {
        "minilm, first": starts(2.0),
        "minilm, again": starts(0.5),
        "minilm bank, first": starts(3.5),
        "minilm bank, again": starts(1.2),
        "smollm2 fp32, first": starts(9.0, size=1000, peak=1300),
        "smollm2 fp32, again": starts(2.0, size=1000, peak=1500),
        "smollm2 int4, again": starts(4.0),
        LITSERVE: starts(7.0),
    }
    findings = cold_start.findings_of(found, [])
    assert [(goal.what, goal.value, goal.met) for goal in findings.goals] == [
        ("seconds to the first response, minilm bank, first", 3.5, False),
        ("seconds to the first response, minilm bank, again", 1.2, False),
        ("seconds to the first response, smollm2 int4, again", 4.0, False),
        ("most memory by the size of the bundle, smollm2 fp32, first", 1.3, True),
        ("most memory by the size of the bundle, smollm2 fp32, again", 1.5, False),
    ]
    assert findings.worst == "0.500 of LitServe's start"


def test_memory_is_that_of_the_process() -> None:
    code = "import time; held = bytearray(300_000_000); del held; print('ready', flush=True); time.sleep(60)"
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None and process.stdout.readline() == "ready\n"
        peak, held = memory_of(process.pid)
        process.kill()
    assert 300e6 < peak < 400e6
    assert held < 100e6


def test_a_server_that_ends_is_an_error_with_its_last_line() -> None:
    with pytest.raises(PeerError, match="no such bundle"):
        cold_start.start(lambda port: ["python3", "-c", "import sys; sys.exit('no such bundle')"], {}, path="/predict")


def test_a_bundle_starts_without_a_cache_and_again_with_the_one_it_left(monkeypatch: pytest.MonkeyPatch) -> None:
    started: list[tuple[str, bool, str, int]] = []

    def bundle(content: str, out: Path) -> SimpleNamespace:
        out.mkdir()
        (out / "content").write_text(content)
        return SimpleNamespace(folder=out)

    def exported(sources: Sequence[object], shape: str, out: Path) -> SimpleNamespace:
        return bundle(shape, out)

    def start(command: Callable[[int], list[str]], body: Any, *, path: str) -> tuple[float, int, int]:
        words = command(8000)
        cache = Path(words[words.index("--cache") + 1])
        content = (Path(words[words.index("serve.cli") + 1]) / "content").read_text()
        started.append((content, cache.is_dir(), body.get("adapter") or body["model"], words.count("--adapter")))
        cache.mkdir(exist_ok=True)
        return float(len(started)), 3_000_000, 2_000_000

    def require(self: Peer) -> None:
        raise PeerError("not installed: make peers")

    monkeypatch.setattr(Peer, "require", require)
    monkeypatch.setattr(cold_start, "trained", lambda kind, out: SimpleNamespace(name="mood"))
    monkeypatch.setattr(cold_start, "exported", exported)
    monkeypatch.setattr(cold_start, "in_int8", lambda merged, out: bundle("int8", out))
    monkeypatch.setattr(cold_start, "like", lambda bank, count, folder: [folder / f"a{i}" for i in range(count)])
    monkeypatch.setattr(cold_start, "start", start)
    monkeypatch.setattr(generation_sides, "trained_writer", lambda out: SimpleNamespace(name="poet"))
    monkeypatch.setattr(generation_sides, "exported", lambda source, precision, shape, out: bundle(precision, out))
    findings = cold_start.measure_starts(2)
    bundles = [("merged", "mood", 0), ("int8", "mood", 0), ("bank", "a7", 8)]
    bundles += [("fp32", "poet", 0), ("int4", "poet", 0), ("fp32", "poet", 0)]
    once = [(name, cached, adapter, beside) for name, adapter, beside in bundles for cached in (False, True)]
    assert started == [("merged", False, "mood", 0), *once, *once]
    names = ["minilm", "minilm int8", "minilm bank of 9", "smollm2 fp32", "smollm2 int4", "smollm2 fp32 --no-cache"]
    assert [(row["server"], row["seconds"]) for row in findings.rows] == [
        (f"{name}, {state}", 8.0 + index)
        for index, (name, state) in enumerate(itertools.product(names, ("first", "again")))
    ]
    assert {(row["peak MB"], row["held MB"]) for row in findings.rows} == {(3, 2)}
    assert findings.absent == [Absent(peer="litserve", reason="not installed: make peers")]
    assert findings.worst == "no peer"


def test_no_rounds_are_refused(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(cold_start, "publish", lambda *_, **__: None)
    with pytest.raises(SystemExit, match="2"):
        cold_start.main(["--rounds", "0"])
    assert "--rounds must be at least 1" in capsys.readouterr().err


def test_what_is_started_keeps_its_byte_code(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(cold_start.NO_BYTE_CODE, "1")
    told = f"import os, sys; sys.exit('told' if {cold_start.NO_BYTE_CODE!r} in os.environ else 'not told')"
    with pytest.raises(PeerError, match="not told"):
        cold_start.start(lambda port: [sys.executable, "-c", told], {}, path="/predict")
    assert os.environ[cold_start.NO_BYTE_CODE] == "1"
