"""Sentences for a reader who has chosen or given too little, without a browser."""

import asyncio
from collections.abc import Callable
from pathlib import Path

import httpx
import pytest

from demos.page.batch_tab import label_file, look
from demos.page.catalog import Catalog, read_catalog
from demos.page.classify_tab import classify
from demos.page.generate_tab import generate
from demos.page.generation import Draft, Settings
from demos.page.server_client import ServerClient
from demos.server import free_port
from tests.demos.page.test_catalog import INFO, MODELS


def answer(request: httpx.Request) -> httpx.Response:
    routes = {"/info": INFO, "/v1/models": MODELS, "/v1/adapters": {"data": []}}
    return httpx.Response(200, json=routes[request.url.path])


def client_of(handler: Callable[[httpx.Request], httpx.Response] = answer) -> ServerClient:
    return ServerClient("http://server", transport=httpx.MockTransport(handler))


def classified(client: ServerClient, catalog: Catalog | None) -> str:
    return asyncio.run(classify(client, catalog, "a text", "", []))


def generated(client: ServerClient, catalog: Catalog | None, *models: str) -> list[str]:
    async def read() -> list[str]:
        steps = generate(client, catalog, "a prompt", models, Settings())
        return [status async for status, _ in steps if isinstance(status, str)]

    return asyncio.run(read())


def test_where_the_server_was_down_its_error_is_repeated() -> None:
    client = ServerClient(f"http://127.0.0.1:{free_port()}")
    assert f"The server at {client.address} does not answer." in classified(client, None)
    assert f"The server at {client.address} does not answer." in generated(client, None)[-1]


def test_where_it_answers_again_the_page_says_how_to_get_its_adapters() -> None:
    assert "press Look again, then choose an adapter." in classified(client_of(), None)


def test_where_there_are_adapters_the_page_asks_for_one_and_says_so_where_there_are_none() -> None:
    catalog = asyncio.run(read_catalog(client_of()))
    assert ">Choose an adapter first.<" in classified(client_of(), catalog)
    assert ">The server has no bundle that generates.<" in generated(client_of(), catalog)[-1]


def test_texts_that_failed_are_not_called_done() -> None:
    def fail(request: httpx.Request) -> httpx.Response:
        return httpx.Response(503, json={"error": "draining"})

    assert "Not all is done: base, north ended with an error." in generated(client_of(fail), None, "base", "north")[-1]


def test_one_token_is_no_tokens() -> None:
    draft = Draft(model="north", tokens=1, started=0.0, first=0.5, last=0.5)
    assert draft.describe() == "1 token, first after 500 ms"


def test_the_error_of_a_file_stays_when_it_is_to_be_classified(tmp_path: Path) -> None:
    wrong, good = tmp_path / "wrong.csv", tmp_path / "good.csv"
    wrong.write_bytes("text\nschön\n".encode("latin-1"))
    good.write_text("text\na\n")

    async def told(file: Path, column: str | None) -> str:
        return [shown async for shown, _ in label_file(client_of(), None, str(file), column, ["tone"])][-1]

    assert "wrong.csv is not in UTF-8: save it as CSV UTF-8." in asyncio.run(told(wrong, None))
    assert "Choose the column with the texts." in asyncio.run(told(good, None))


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("text\na\n", ">1 row.<"),
        ("text,label\na;b,c\nd,e\n", ">2 rows.<"),
        ("text;label\na;b\n", "1 row. One column, &#x27;text;label&#x27;: is the file separated by semicolons?"),
        ("text\tlabel\na\tb\n", "is the file separated by tabs? Save it with commas."),
    ],
)
def test_the_rows_of_a_file_are_counted_and_other_separators_noticed(tmp_path: Path, content: str, said: str) -> None:
    (tmp_path / "a.csv").write_text(content)
    assert said in look(str(tmp_path / "a.csv"))[1]
