"""The command that opens the page for a server that runs already."""

import socket
from pathlib import Path

import pytest

from demos.quickstart import main
from demos.server import free_port
from tests.demos.page.conftest import READER


@pytest.fixture
def key_file(tmp_path: Path) -> Path:
    file = tmp_path / "key"
    file.write_text(f"{READER}\n")
    return file


def test_without_a_server_it_ends_and_says_what_to_start() -> None:
    address = f"http://127.0.0.1:{free_port()}"
    with pytest.raises(
        SystemExit, match=rf"^adamix-demo: The server at {address} does not answer\. Start adamix-serve"
    ):
        main(["--server", address])


def test_a_missing_and_a_wrong_key_end_it(server: str, tmp_path: Path) -> None:
    with pytest.raises(SystemExit, match=r"^adamix-demo: The server wants an API key"):
        main(["--server", server])
    (tmp_path / "wrong").write_text("wrong")
    with pytest.raises(SystemExit, match=r"^adamix-demo: The server wants an API key"):
        main(["--server", server, "--api-key-file", str(tmp_path / "wrong")])
    with pytest.raises(SystemExit, match=r"^adamix-demo: .*No such file.*nowhere"):
        main(["--server", server, "--api-key-file", "nowhere"])


def test_a_key_needs_a_server(key_file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["--api-key-file", str(key_file)])
    assert "--api-key-file goes with --server" in capsys.readouterr().err


def test_the_page_opens_with_the_key_and_a_port_that_is_taken_ends_it(server: str, key_file: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = str(taken.getsockname()[1])
        with pytest.raises(SystemExit, match=rf"^adamix-demo: .*{port}"):
            main(["--server", server, "--api-key-file", str(key_file), "--page-port", port])


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        (["--allow-training"], "--allow-training with --server needs --adapter-dir and --base, both on this machine"),
        (["--adapter-dir", "a", "--base", "b"], "--adapter-dir and --base go with --server and --allow-training"),
    ],
)
def test_training_needs_its_folders(flags: list[str], said: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["--server", "http://127.0.0.1:1", *flags])
    assert said in capsys.readouterr().err


def test_folders_that_are_not_there_end_it(server: str, key_file: Path, tmp_path: Path) -> None:
    ask = ["--server", server, "--api-key-file", str(key_file), "--allow-training", "--base", str(tmp_path)]
    with pytest.raises(SystemExit, match=r"^adamix-demo: --adapter-dir: there is no folder nowhere"):
        main([*ask, "--adapter-dir", "nowhere"])
    with pytest.raises(SystemExit, match=r"^adamix-demo: --base: .* is not a model folder: it has no config\.json"):
        main([*ask, "--adapter-dir", str(tmp_path)])
