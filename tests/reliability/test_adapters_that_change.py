"""Adapters are loaded, replaced and unloaded under traffic, by clients, by the watch, and by the lookup.

Each classifier answers with its own label and each version with its own logits, each writer with its own letter: an
answer of a wrong adapter, or of a slot that was half written, shows.
"""

import shutil
import time
from collections.abc import Callable
from pathlib import Path

import httpx
import pytest

from serve.bundle.adapter import CARD
from serve.bundle.checked_json import file_sha256
from tests.fixtures.byte_decoder import byte_tokenizer
from tests.fixtures.hand_computed_decoder import write_decoder_bundle
from tests.fixtures.telling_adapters import (
    LETTERS,
    Telling,
    classifier_reference,
    swap,
    write_classifier,
    write_writer,
    writer_base,
)
from tests.reliability.conftest import serve
from tests.reliability.traffic import Traffic, ask_classifier, ask_writer, clients
from tests.serve.conftest import Reference, write_bundle

STABLE = ("one", "two", "three", "four", "five")
CYCLES = [40, pytest.param(500, marks=pytest.mark.soak)]
POLL_SECONDS = 0.05
WAIT_SECONDS = 30.0
Make = Callable[[Path, str, int], Telling]


def load(client: httpx.Client, name: str, path: str, *, replace: bool) -> str:
    """Load an adapter and return the sha256 of its weights."""
    body = {"lora_name": name, "lora_path": path, "load_inplace": replace}
    response = client.post("/v1/load_lora_adapter", json=body)
    assert response.status_code == 200, response.text
    return str(response.json()["root"])


def wait_for(true: Callable[[], bool]) -> None:
    deadline = time.monotonic() + WAIT_SECONDS
    while not true():
        assert time.monotonic() < deadline, "it never came true"
        time.sleep(POLL_SECONDS / 5)


def served(client: httpx.Client, name: str) -> str | None:
    """Return the sha256 of the adapter that is served under a name."""
    found = [one for one in client.get("/v1/adapters").json()["data"] if one["name"] == name and one["served"]]
    return str(found[0]["sha256"]) if found else None


@pytest.fixture
def root(tmp_path: Path) -> Path:
    (tmp_path / "adapters").mkdir()
    return tmp_path / "adapters"


@pytest.fixture
def classifiers(tmp_path: Path, reference: Reference) -> tuple[Path, Make]:
    """A bundle of one classifier, and the maker of others for it."""
    base = classifier_reference(reference)
    bundle = write_bundle(tmp_path / "bundle", base, ["tone"])
    tokenizer = file_sha256(bundle / "tokenizer.json")
    return bundle, lambda folder, name, version: write_classifier(folder, base, name, version, tokenizer)


@pytest.fixture
def writers(tmp_path: Path) -> tuple[Path, Make]:
    """A bundle of writers, and the maker of others for it, of which each version has a letter of its own."""
    base = writer_base()
    bundle = write_decoder_bundle(tmp_path / "bundle", base, tokenizer=byte_tokenizer(), max_position_embeddings=1024)
    tokenizer, places = file_sha256(bundle / "tokenizer.json"), {}

    def make(folder: Path, name: str, version: int) -> Telling:
        place = places.setdefault(name, len(places))
        letter = LETTERS[(place + 7 * version) % len(LETTERS)]
        return write_writer(folder, base, name, letter, tokenizer)

    return bundle, make


KINDS = {"classifiers": ask_classifier, "writers": ask_writer}


@pytest.mark.parametrize("cycles", CYCLES)
@pytest.mark.parametrize("kind", KINDS)
def test_load_replace_and_unload_under_traffic(
    kind: str,
    cycles: int,
    root: Path,
    tmp_path: Path,
    request: pytest.FixtureRequest,
    figure: Callable[[str], None],
) -> None:
    """One adapter comes and goes by requests, another by the watch; five stay, of which one is pinned."""
    bundle, make = request.getfixturevalue(kind)
    traffic = Traffic(going={"guest", "parcel"})
    stable = []
    for name in STABLE:
        traffic.add(make(tmp_path / "stable" / name, name, 0))
        stable += ["--adapter", tmp_path / "stable" / name]
    flags = ("--adapter-dir", root, "--adapter-watch", POLL_SECONDS, "--slots", 3, "--host-adapters", 3)
    with serve(bundle, *stable, *flags, "--pin", "one", "--max-queue-secs", 60) as server:
        started = time.monotonic()
        with (
            httpx.Client(base_url=server.address, timeout=60) as client,
            clients(traffic, server.address, lambda: [*STABLE, "guest", "parcel"], KINDS[kind]),
        ):
            for cycle in range(cycles):
                one_cycle(client, traffic, make, root, cycle)
        seconds = time.monotonic() - started
        assert served(httpx.Client(base_url=server.address), "one")
        assert not [line for line in server.log if "Traceback" in line], "\n".join(server.log[-40:])
    figure(
        f"{cycles} cycles of {kind} in {seconds:.0f} s: {traffic.answers} right answers and {traffic.missing} right "
        f"404 beside them, {len(traffic.wrong)} wrong; slowest {max(traffic.seconds):.2f} s"
    )
    assert not traffic.wrong, "\n".join(traffic.wrong[:10])
    assert traffic.answers > 5 * cycles
    assert server.process.returncode == 0


def one_cycle(client: httpx.Client, traffic: Traffic, make: Make, root: Path, cycle: int) -> None:
    """Load, replace and unload `guest`, and let `parcel` appear, change and now and then vanish."""
    ask = ask_writer if traffic.known[next(iter(traffic.known))].letter else ask_classifier
    new = root / ".new"
    guests = [traffic.add(make(root / f".guest{number}", "guest", 2 * cycle + number)) for number in range(2)]
    assert load(client, "guest", ".guest0", replace=False) == guests[0].sha256
    only = Traffic(known={guests[0].sha256: guests[0]})
    ask(only, client, "guest")
    parcel = traffic.add(make(new, "parcel", cycle))
    swap(new, root / "parcel")
    assert load(client, "guest", ".guest1", replace=True) == guests[1].sha256
    only.known = {guests[1].sha256: guests[1]}
    ask(only, client, "guest")
    assert (only.answers, only.wrong) == (2, []), "what was loaded answers the next request"
    assert client.post("/v1/unload_lora_adapter", json={"lora_name": "guest"}).status_code == 200
    wait_for(lambda: served(client, "parcel") == parcel.sha256)
    if cycle % 5 == 4:
        shutil.rmtree(root / "parcel")
        wait_for(lambda: served(client, "parcel") is None)
    for number in range(2):
        shutil.rmtree(root / f".guest{number}")


@pytest.mark.parametrize("seconds", [4, pytest.param(120, marks=pytest.mark.soak)])
@pytest.mark.parametrize("kind", KINDS)
def test_lookups_that_evict_each_other_under_traffic(
    kind: str, seconds: float, root: Path, request: pytest.FixtureRequest, figure: Callable[[str], None]
) -> None:
    """Eight adapters, of which the lookup keeps three and the bank holds four, while one changes."""
    bundle, make = request.getfixturevalue(kind)
    names = [*STABLE, "six", "seven", "eight"]
    traffic = Traffic()
    for name in names:
        traffic.add(make(root / name, name, 0))
    flags = ("--adapter-dir", root, "--adapter-lookup", "--max-lookup-adapters", 3, "--adapter-watch", POLL_SECONDS)
    with serve(bundle, *flags, "--slots", 4, "--pin", "eight", "--max-queue-secs", 60) as server:
        with clients(traffic, server.address, lambda: names, KINDS[kind]):
            deadline, version = time.monotonic() + seconds, 0
            while time.monotonic() < deadline:
                version += 1
                traffic.add(make(root / ".new", "two", version))
                swap(root / ".new", root / "two")
                time.sleep(0.2)
        with httpx.Client(base_url=server.address) as client:
            found = {one["name"]: one for one in client.get("/v1/adapters").json()["data"]}
        loads = sum("which a request names" in line for line in server.log)
        assert not [line for line in server.log if "Traceback" in line], "\n".join(server.log[-40:])
    figure(
        f"8 {kind}, of which the lookup keeps 3, for {seconds} s: {traffic.answers} right answers, "
        f"{len(traffic.wrong)} wrong; {loads} loads on request; slowest {max(traffic.seconds):.2f} s"
    )
    assert not traffic.wrong, "\n".join(traffic.wrong[:10])
    assert loads > 8
    assert found["eight"]["pinned"] and found["eight"]["status"] == "slot"
    assert sum(found[name]["served"] for name in names) <= 5


def test_a_folder_that_is_copied_slowly_is_never_served_half(
    root: Path, tmp_path: Path, classifiers: tuple[Path, Make]
) -> None:
    """Both files arrive a byte at a time, card first; the version before answers until the last one is there."""
    bundle, make = classifiers
    traffic = Traffic()
    traffic.add(make(root / "parcel", "parcel", 0))
    new = make(tmp_path / "new", "parcel", 1)
    with (
        serve(bundle, "--adapter-dir", root, "--adapter-watch", POLL_SECONDS) as server,
        httpx.Client(base_url=server.address) as client,
    ):
        wait_for(lambda: served(client, "parcel") is not None)
        with clients(traffic, server.address, lambda: ["parcel"], ask_classifier, count=1):
            for name in (CARD, "adapter.safetensors"):
                content = (tmp_path / "new" / name).read_bytes()
                with (root / "parcel" / name).open("wb") as file:
                    for start in range(0, len(content), len(content) // 8):
                        if name != CARD and start + len(content) // 8 >= len(content):
                            traffic.add(new)
                        file.write(content[start : start + len(content) // 8])
                        file.flush()
                        time.sleep(2.5 * POLL_SECONDS)
            wait_for(lambda: served(client, "parcel") == new.sha256)
        assert not traffic.wrong, "\n".join(traffic.wrong[:5])
        assert traffic.answers > 10
        (state,) = [one for one in client.get("/v1/adapters").json()["data"] if one["name"] == "parcel"]
        assert state["error"] is None
