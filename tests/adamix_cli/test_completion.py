"""Completion, asked of the shells themselves."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from docs.site.commands import COMMANDS

ROOT = Path(__file__).parents[2]
ASK = """
source {script}
COMP_WORDS=({words})
COMP_CWORD={index}
COMP_LINE="${{COMP_WORDS[*]}}" COMP_POINT=1000
{function} {command} "${{COMP_WORDS[$COMP_CWORD]}}" "${{COMP_WORDS[$((COMP_CWORD - 1))]}}"
printf '%s\\n' "${{COMPREPLY[@]}}"
"""


def script(command: str, shell: str) -> str:
    run = [sys.executable, "-m", COMMANDS[command][0], "--print-completion", shell]
    return subprocess.run(run, capture_output=True, text=True, check=True, cwd=ROOT).stdout


def bash_completes(command: str, words: list[str], folder: Path) -> list[str]:
    """What bash offers for the last of some words after the command."""
    file = folder / f"{command}.bash"
    if not file.exists():
        file.write_text(script(command, "bash"))
    line = [command, *words]
    quoted = " ".join(f"'{word}'" for word in line)
    function = f"_shtab_{command.replace('-', '_')}"
    ask = ASK.format(script=file, words=quoted, index=len(line) - 1, function=function, command=command)
    found = subprocess.run(["bash", "--norc", "-c", ask], capture_output=True, text=True, cwd=folder)
    assert found.returncode == 0, found.stderr
    return found.stdout.split()


OFFERED = {
    "flags of serve": ("adamix-serve", ["--max-q"], {"--max-queued-requests", "--max-queue-secs"}),
    "choices of serve": ("adamix-serve", ["--provider", "c"], {"cpu", "cuda"}),
    "bundles of serve": ("adamix-serve", ["bund"], {"bundles"}),
    "files of serve": ("adamix-serve", ["--config", "ser"], {"serve.yaml"}),
    "flags of train": ("adamix-train", ["--num-m"], {"--num-modules"}),
    "listings of train": ("adamix-train", ["--list", ""], {"tasks", "families", "kinds"}),
    "flags of a sweep": ("adamix-train", ["sweep", "--see"], {"--seed", "--seeds"}),
    "flags of export": ("adamix-export", ["--keep"], {"--keep-modules"}),
    "precisions of export": ("adamix-export", ["--precision", "int"], {"int8", "int4", "int4-fp16"}),
    "commands of export": ("adamix-export", ["ver"], {"verify"}),
    "flags of verify": ("adamix-export", ["verify", "--aga"], {"--against"}),
    "forms of convert": ("adamix-export", ["convert", "--to", "g"], {"gguf-lora", "genai"}),
    "files of predict": ("adamix-predict", ["bundles", "ser"], {"serve.yaml"}),
    "flags of the demo": ("adamix-demo", ["--no-p"], {"--no-page"}),
}
"""What is typed, and what the shell offers."""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("completion")
    (made / "bundles").mkdir()
    (made / "serve.yaml").touch()
    return made


@pytest.mark.slow
@pytest.mark.parametrize(("command", "words", "expected"), OFFERED.values(), ids=OFFERED)
def test_bash_completes(command: str, words: list[str], expected: set[str], folder: Path) -> None:
    assert set(bash_completes(command, words, folder)) == expected


@pytest.mark.slow
@pytest.mark.parametrize("command", COMMANDS)
def test_zsh_reads_its_script(command: str, tmp_path: Path) -> None:
    text = script(command, "zsh")
    assert text.startswith(f"#compdef {command}")
    if shutil.which("zsh") is None:
        pytest.skip("zsh is not installed: it has not parsed the script")
    (tmp_path / "script").write_text(text)
    subprocess.run(["zsh", "-n", tmp_path / "script"], check=True)


def test_another_shell_is_refused() -> None:
    run = [sys.executable, "-m", "serve.cli", "--print-completion", "fish"]
    assert subprocess.run(run, capture_output=True, cwd=ROOT).returncode == 2


@pytest.mark.parametrize("command", COMMANDS)
def test_help_in_a_pipe_has_no_colour_and_names_the_habits(command: str) -> None:
    run = [sys.executable, "-m", COMMANDS[command][0]]
    for arguments in COMMANDS[command][1]:
        shown = subprocess.run([*run, *arguments, "--help"], capture_output=True, text=True, cwd=ROOT).stdout
        assert "\x1b" not in shown
        assert "--json" in shown or "deploy" in arguments  # which prints no table


def test_listings_are_tables_and_json() -> None:
    run = [sys.executable, "-m", "adamix_train.cli", "--list"]
    kinds = subprocess.run([*run, "kinds"], capture_output=True, text=True, check=True, cwd=ROOT).stdout
    assert [line.split()[0] for line in kinds.splitlines()] == ["kinds", "houlsby", "lora", "pfeiffer"]
    for name in ("tasks", "families", "kinds"):
        found = subprocess.run([*run, name, "--json"], capture_output=True, text=True, check=True, cwd=ROOT).stdout
        assert len(json.loads(found)) >= 3
