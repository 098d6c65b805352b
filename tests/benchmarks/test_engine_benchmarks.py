"""What the benchmarks of the engine make of their times, and the bundles that they measure."""

import asyncio
import json
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from types import SimpleNamespace

import numpy as np
import pytest

from adamix_export.checkpoint.checkpoint import open_checkpoint
from benchmarks import bank, cold_start, mixed_lengths, server
from benchmarks.peers import Peer
from benchmarks.server import OURS, PEER, Turns
from benchmarks.support import bundles
from benchmarks.support.bundles import exported, like, sentences
from benchmarks.support.errors import BenchmarkError, DisagreementError, PeerError
from benchmarks.support.load_client import closed_loop
from benchmarks.support.rounds import Timing
from serve.bundle.reader import with_adapters
from serve.classification.classifier import Classifier
from tests.fixtures.random_checkpoints import make_encoder, mixture


@pytest.fixture(autouse=True)
def _not_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    """No peer has to be there to conclude from its times."""
    monkeypatch.setattr(Peer, "versions", lambda self: {})


def test_a_bank_is_held_against_the_plain_graph_and_one_adapter_a_run() -> None:
    times = {bank.PLAIN: 1.0, bank.BANK: 1.1, bank.ALONE: 1.0, bank.FILES: 5.5, bank.EACH: 8.0}
    sides = {name: Timing([seconds]) for name, seconds in times.items()}
    findings = bank.findings_of({"lora": sides, "houlsby": sides}, grown=1.2e9, size=1e6)
    assert [(round(goal.value or 0, 3), goal.met) for goal in findings.goals] == [
        (1.1, False),
        (1.1, True),
        (5.0, True),
        (5.0, True),
        (1.2, False),
    ]
    assert findings.worst.startswith("1.100 (lora")
    assert len(findings.rows) == 10


def turns(rate: float, *latencies: float) -> Turns:
    return Turns(rates=[rate], latencies=[list(latencies)])


def test_a_server_is_held_against_the_engine_and_the_peer() -> None:
    slow = [0.1] * 99 + [0.5]
    measured = {
        (OURS, 1): turns(150.0, 0.006, 0.006, 0.006),
        (OURS, 64): turns(270.0, *slow),
        (PEER, 64): turns(90.0, *slow),
    }
    engine = SimpleNamespace(rates=[300.0], alone=[0.005])
    findings = server.findings_of(measured, engine, [])
    throughput, peer, overhead, tail = findings.goals
    assert (throughput.value, throughput.met) == (pytest.approx(0.9), True)
    assert (peer.value, peer.met) == (pytest.approx(3.0), True)
    assert (overhead.value, overhead.met) == (pytest.approx(1.0), True)
    assert tail.value == pytest.approx(4.96, abs=0.1)
    assert not tail.met


def test_the_slowest_bundle_is_held_against_the_goals_of_a_start() -> None:
    timings = {
        "merged, first": Timing([2.0]),
        "merged, again": Timing([1.0]),
        "bank, first": Timing([3.5]),
        "bank, again": Timing([1.2]),
        cold_start.PEER: Timing([2.4]),
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


def test_sides_that_answer_otherwise_do_not_compare() -> None:
    good = np.ones((3, 2), np.float32)
    mixed_lengths.require_agreement({mixed_lengths.OURS: good, "optimum": good})
    with pytest.raises(DisagreementError, match=r"the logits of optimum differ from ours by 1.00e-01"):
        mixed_lengths.require_agreement({mixed_lengths.OURS: good, "optimum": good + np.float32(0.1)})


def test_sentences_are_those_of_the_test_set_and_then_of_the_validation_set(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bundles, "SET_DATA", tmp_path)
    with pytest.raises(BenchmarkError, match=r"test.tsv is missing: set ADAMIX_DATA"):
        sentences(3)
    (tmp_path / "sst2").mkdir()
    (tmp_path / "sst2" / "test.tsv").write_text("one two\t0\nthree\t1\n")
    (tmp_path / "sst2" / "dev.tsv").write_text("four\t1\nfive\t0\n")
    assert sentences(3) == ["one two", "three", "four"]


@pytest.mark.slow
def test_adapters_like_another_pass_the_checks_of_loading(tmp_path: Path) -> None:
    run = mixture(tmp_path / "mood", make_encoder(tmp_path / "base", "bert"), kind="lora")
    bundle = exported([open_checkpoint(str(run))], "bank", tmp_path / "bank")
    classifier = Classifier(with_adapters(bundle, like(bundle, 3, tmp_path / "many")), provider="cpu")
    answers = classifier(["good"] * 3, adapter=["a0", "a1", "a2"])
    assert len({answer.sha256 for answer in answers}) == 3
    assert len({answer.logits.tobytes() for answer in answers}) == 3


def test_clients_send_every_body_once_and_an_error_ends_them() -> None:
    seen: list[object] = []

    class Answers(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["content-length"])))
            seen.append(body)
            self.send_response(500 if body == "bad" else 200)
            self.send_header("content-length", "2")
            self.end_headers()
            self.wfile.write(b"{}")

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Answers) as listener:
        Thread(target=listener.serve_forever, daemon=True).start()
        url = f"http://127.0.0.1:{listener.server_address[1]}/predict"
        found = asyncio.run(closed_loop(url, 4, list(range(20))))
        assert sorted(seen) == list(range(20))
        assert len(found["latencies"]) == 20
        assert 0 < min(found["latencies"]) <= found["seconds"]
        with pytest.raises(RuntimeError, match="500"):
            asyncio.run(closed_loop(url, 1, ["bad"]))
        listener.shutdown()
