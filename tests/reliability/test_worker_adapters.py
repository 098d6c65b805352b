"""Adapters of folders on several workers: bounds, failures and changes are those of the whole server."""

import os
import shutil
import signal
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest

from serve.bundle.adapter import CARD, WEIGHTS
from tests.reliability.conftest import Server, serve
from tests.reliability.worker_load import children, wait_for, wait_for_workers
from tests.serve.conftest import LABELS, Reference, write_adapter

pytestmark = pytest.mark.slow

NAMES = tuple("abcdef")
KEPT = 2
Listed = dict[str, dict[str, Any]]


@pytest.fixture
def root(tmp_path: Path, reference: Reference) -> Path:
    for name in NAMES:
        write_adapter(tmp_path / "adapters" / name, reference, "tone", name=name)
    return tmp_path / "adapters"


@contextmanager
def two_workers(bundle: Path, root: Path, *flags: object) -> Iterator[Server]:
    with serve(bundle, "--workers", 2, "--slots", 8, "--no-cache", "--adapter-dir", root, *flags) as server:
        wait_for_workers(server.address, 2, supervisor=server.process.pid)
        yield server


@contextmanager
def each_worker(server: Server) -> Iterator[list[httpx.Client]]:
    """Two connections, which are those of two workers."""
    with httpx.Client(base_url=server.address, timeout=30) as one, httpx.Client(base_url=server.address) as two:
        yield [one, two]


def listed(client: httpx.Client) -> Listed:
    return {one["name"]: one for one in client.get("/v1/adapters").json()["data"]}


def on_both(server: Server) -> list[Listed]:
    with each_worker(server) as clients:
        return [listed(client) for client in clients]


def looked_up(found: Listed) -> set[str]:
    return {name for name, one in found.items() if one["served"] and one["source"] == "lookup"}


def not_served(found: Listed) -> Listed:
    return {name: one for name, one in found.items() if not one["served"]}


def restart_all(server: Server) -> None:
    for worker in children(server.process.pid):
        os.kill(worker, signal.SIGKILL)
        wait_for_workers(server.address, 2, supervisor=server.process.pid, without=worker)


def test_the_bound_of_lookups_holds_over_all_workers(
    classifier_folder: Path, root: Path, figure: Callable[[str], None]
) -> None:
    """Eight clients name six adapters, of which two are kept; the bound holds again once nothing is asked."""
    flags = ("--adapter-lookup", "--max-lookup-adapters", KEPT)
    outcomes: Counter[int] = Counter()

    def ask(first: int) -> None:
        for number in range(12):
            body = {"inputs": "good", "adapter": NAMES[(first + number * 5) % len(NAMES)]}
            outcomes[httpx.post(f"{server.address}/predict", json=body, timeout=60).status_code] += 1

    with two_workers(classifier_folder, root, *flags) as server:
        threads = [threading.Thread(target=ask, args=(number,)) for number in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert outcomes == {200: 96}
        wait_for(lambda: all(len(looked_up(found)) <= KEPT for found in on_both(server)))
        one, two = map(looked_up, on_both(server))
        assert one == two and len(one) == KEPT
        with each_worker(server) as clients:  # the one that was not used for longest, whichever worker used it
            for client, name in zip((*clients, *clients), "abca", strict=True):
                assert client.post("/predict", json={"inputs": "good", "adapter": name}).status_code == 200
            wait_for(lambda: all(looked_up(listed(client)) == {"a", "c"} for client in clients))
        restart_all(server)
        assert [looked_up(found) for found in on_both(server)] == [{"a", "c"}] * 2
        assert server.ask("d").status_code == 200
        wait_for(lambda: all(looked_up(found) <= {"a", "c", "d"} for found in on_both(server)))
        wait_for(lambda: all(len(looked_up(found)) == KEPT for found in on_both(server)))
        assert not [line for line in server.log if " ERROR " in line and "is started again" not in line]
    figure(f"six adapters of which {KEPT} are kept, on two workers: {dict(outcomes)}")


def test_a_failed_load_is_known_to_all_workers_and_outlives_them(classifier_folder: Path, root: Path) -> None:
    (root / "a" / WEIGHTS).write_bytes(b"")
    with two_workers(classifier_folder, root, "--adapter-lookup") as server:
        assert server.ask("a").status_code == 500
        with each_worker(server) as clients:
            body = {"lora_name": "b", "lora_path": "c"}
            assert clients[0].post("/v1/load_lora_adapter", json=body).status_code == 422
        found = [not_served(each) for each in on_both(server)]
        assert found[0] == found[1]
        assert {name: found[0][name]["status"] for name in "abc"} == {"a": "failed", "b": "available", "c": "failed"}
        assert "a/adapter.safetensors is damaged" in found[0]["a"]["error"]
        restart_all(server)
        assert [not_served(each) for each in on_both(server)] == found
        assert server.ask("a").status_code == 500
        assert sum("adapter a was looked up and is not served" in line for line in server.log) == 1


def test_a_watched_folder_is_told_of_once_by_all_workers(
    classifier_folder: Path, root: Path, reference: Reference
) -> None:
    for name in NAMES[1:]:
        shutil.rmtree(root / name)
    with two_workers(classifier_folder, root, "--adapter-watch", 0.2) as server:

        def status(path: str) -> list[str | None]:
            return [
                next((one["status"] for one in each.values() if one["folder"] == path), None)
                for each in on_both(server)
            ]

        def told(text: str) -> int:
            return sum(text in line for line in server.log)

        assert status("a") == ["slot"] * 2
        shutil.copytree(root / "a", root / "twin")
        wait_for(lambda: status("twin") == ["failed"] * 2)
        write_adapter(root.parent / "green", reference, "match", name="a", pairs=False, labels=LABELS["tone"])
        (root.parent / "green").rename(root / "green")
        wait_for(lambda: status("green") == ["failed"] * 2)
        before = on_both(server)[0]["a"]["sha256"]
        os.utime(root / "a" / CARD)
        (root / "twin").rename(root / "away")
        wait_for(lambda: status("away") == ["failed"] * 2)
        shutil.rmtree(root / "away")
        wait_for(lambda: status("away") == [None] * 2)
        shutil.rmtree(root / "a")
        wait_for(lambda: status("green") == ["slot"] * 2)
        assert all(each["a"]["sha256"] != before for each in on_both(server))
        assert told("replaced adapter") == 0
        assert told("adapter a is served from green, since a is gone") == 1
        assert [told(f"adapter folder {path} was not loaded") for path in ("twin", "green", "away")] == [1, 1, 1]
