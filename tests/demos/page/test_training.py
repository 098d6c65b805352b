"""Training runs without a browser: for a bank that generates, and where the server has no room for the result."""

import asyncio
import json
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from demos.page.catalog import read_catalog
from demos.page.server_client import PageError, ServerClient
from demos.page.training import TrainingRequest, TrainingState, read_log, train_adapter
from demos.page.training_place import TrainingPlace, open_place
from demos.server import running_server
from tests.adamix_export.conftest import run_export
from tests.adamix_train.conftest import make_writer, write_wordings
from tests.fixtures.generation_banks import generative_checkpoint

pytestmark = pytest.mark.usefixtures("equal_priority")


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> TrainingPlace:
    folder = tmp_path_factory.mktemp("place")
    (folder / "adapters").mkdir()
    return open_place(
        [make_writer(folder / "base", "llama", max_position_embeddings=128, num_hidden_layers=1)], folder / "adapters"
    )


@pytest.fixture(scope="module")
def bundle(place: TrainingPlace, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A bank of one adapter that generates."""
    folder = tmp_path_factory.mktemp("writer")
    (base,) = place.bases.values()
    run = generative_checkpoint(folder / "old", base, write_wordings(folder / "old.csv"), kind="lora", num_modules=2)
    run_export(folder / "bundle", "bank", run, slots=1, limit=4)
    return folder / "bundle"


@pytest.fixture
def writer(bundle: Path, place: TrainingPlace) -> Iterator[str]:
    """Address of a server with the bank."""
    options = ["--provider", "cpu", "--no-cache", "--adapter-dir", str(place.adapter_dir)]
    with running_server(bundle, options=options) as address:
        yield address


def train(address: str, place: TrainingPlace, file: Path, name: str) -> TrainingState:
    """Train, and return the last state."""

    async def run() -> TrainingState:
        client = ServerClient(address)
        catalog = await read_catalog(client)
        request = TrainingRequest(
            name=name,
            file=file,
            text_column="input",
            label_column="target",
            model=catalog.adapters["old"],
            epochs=1,
        )
        return [state async for state in train_adapter(client, place, catalog, request)][-1]

    return asyncio.run(run())


@pytest.mark.slow
def test_a_bank_that_generates_gets_an_adapter_that_generates(
    writer: str, place: TrainingPlace, tmp_path: Path
) -> None:
    state = train(writer, place, write_wordings(tmp_path / "new.csv"), "new")
    assert state.stage == "Served"
    assert state.parity is not None and state.parity["metric"] == "perplexity"
    assert [entry["step"] for entry in state.entries if "eval_loss" in entry]
    facts = httpx.get(f"{writer}/info").json()["adapters"]["new"]
    assert (facts["kind"], facts["num_modules"], facts["labels"]) == ("lora", 2, [])
    body = {"model": "new", "prompt": "parcel good", "max_tokens": 4}
    assert httpx.post(f"{writer}/v1/completions", json=body).status_code == 200


@pytest.mark.slow
def test_a_server_that_lets_nobody_load_is_told_before_anything_is_trained(
    bundle: Path, place: TrainingPlace, tmp_path: Path
) -> None:
    with (
        running_server(bundle, options=["--provider", "cpu", "--no-cache"]) as address,
        pytest.raises(PageError, match=r"start adamix-serve with --adapter-dir FOLDER"),
    ):
        train(address, place, write_wordings(tmp_path / "new.csv"), "other")
    assert not (place.adapter_dir / "other").exists()


def test_a_line_that_is_still_being_written_is_left_out(tmp_path: Path) -> None:
    file = tmp_path / "log.jsonl"
    assert read_log(file) == []
    file.write_text(f'{json.dumps({"step": 1})}\n{{"step": 2, "lo')
    assert read_log(file) == [{"step": 1}]
