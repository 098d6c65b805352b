"""Installing peers, with steps that only take note."""

import subprocess
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from benchmarks.peers import PEERS
from benchmarks.peers.__main__ import main


@pytest.fixture
def steps(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, str]]:
    """First and last word of every command that is run; the packages of llama cannot be installed."""
    ran: list[tuple[str, str]] = []

    def run(command: Sequence[str], **_: object) -> subprocess.CompletedProcess[str]:
        ran.append((command[0], command[-1]))
        if "venv" in command:
            Path(command[-1]).mkdir(exist_ok=True)
        fails = command[-1].endswith("llama.txt")
        return subprocess.CompletedProcess(command, fails, "", "Collecting\nERROR: no such version\n" if fails else "")

    monkeypatch.setattr(subprocess, "run", run)
    for name in list(PEERS):
        monkeypatch.setitem(PEERS, name, replace(PEERS[name], environments=tmp_path))
    return ran


def test_an_environment_is_made_and_filled_once(
    steps: list[tuple[str, str]], capsys: pytest.CaptureFixture[str]
) -> None:
    peer = PEERS["genai"]
    main(["genai"])
    assert steps == [(sys.executable, str(peer.folder)), (str(peer.python), str(peer.requirements))]
    peer.require()
    main(["genai"])
    assert len(steps) == 2
    assert capsys.readouterr().out == "genai: installed\n" * 2


def test_an_environment_of_other_requirements_is_made_anew(steps: list[tuple[str, str]]) -> None:
    peer = PEERS["genai"]
    main(["genai"])
    peer.marker.write_text("old")
    main(["genai"])
    assert steps[2:] == steps[:2]
    peer.require()


def test_a_peer_that_cannot_be_installed_does_not_keep_others_from_it(
    steps: list[tuple[str, str]], capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["llama", "genai"])
    assert ended.value.code == 1
    assert capsys.readouterr().out == "llama: NOT installed: ERROR: no such version\ngenai: installed\n"
    assert not PEERS["llama"].marker.exists()


def test_an_unknown_peer_ends_it_before_anything_is_made(steps: list[tuple[str, str]]) -> None:
    with pytest.raises(SystemExit, match=f"unknown peer nobody; known are {', '.join(PEERS)}"):
        main(["genai", "nobody"])
    assert not steps
