from argparse import ArgumentParser, ArgumentTypeError, Namespace
from pathlib import Path

import pytest

from adamix_export.commands.command import Command, Output, add_comparison_flags, positive
from adamix_export.commands.export import EXPORT
from adamix_export.commands.signals import StopSignals


def add_count(parser: ArgumentParser) -> None:
    parser.add_argument("--count", type=positive, required=True)


def report(args: Namespace, signals: StopSignals) -> Output:
    return Output(str(args.count), {"count": args.count})


COMMAND = Command(description="Count to a number.", examples="  count --count 3\n", add_flags=add_count, run=report)


@pytest.mark.parametrize(("text", "number"), [("1", 1), ("500", 500), ("007", 7)])
def test_a_whole_number_above_0_is_taken(text: str, number: int) -> None:
    assert positive(text) == number


@pytest.mark.parametrize("text", ["0", "-1", "1.5", "", "many", "²"])
def test_any_other_text_is_refused(text: str) -> None:
    with pytest.raises(ArgumentTypeError, match=f"^{text} is not a whole number above 0$"):
        positive(text)


def test_a_refused_value_ends_the_command_with_the_flag_and_the_reason(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as end:
        COMMAND.parser("count").parse_args(["--count", "0"])
    assert end.value.code == 2
    assert "argument --count: 0 is not a whole number above 0" in capsys.readouterr().err


def test_every_command_takes_json_beside_its_own_flags() -> None:
    parser = COMMAND.parser("count")
    assert vars(parser.parse_args(["--count", "3"])) == {"count": 3, "json": False}
    assert vars(parser.parse_args(["--count", "3", "--json"])) == {"count": 3, "json": True}


def test_the_help_keeps_the_lines_of_the_examples() -> None:
    shown = COMMAND.parser("count").format_help()
    assert "Count to a number." in shown
    assert shown.endswith("examples:\n  count --count 3\n")


def test_the_flags_of_a_comparison_are_unset_unless_given() -> None:
    parser = ArgumentParser()
    add_comparison_flags(parser, default_tolerance="1e-4")
    assert vars(parser.parse_args([])) == {"base": None, "data": None, "parity_rows": None, "tolerance": None}
    given = parser.parse_args(["--base", "b", "--data", "d.tsv", "--parity-rows", "9", "--tolerance", "0.5"])
    assert vars(given) == {"base": "b", "data": Path("d.tsv"), "parity_rows": 9, "tolerance": 0.5}
    assert "(default: 1e-4)" in " ".join(parser.format_help().split())


@pytest.mark.parametrize(
    ("flag", "error"),
    [
        ("--toleranc", "unknown argument --toleranc: did you mean --tolerance?"),
        ("--lr", "unknown argument --lr"),
        ("--model", "unknown argument --model: did you mean --base?"),
    ],
)
def test_flags_are_written_out(flag: str, error: str, capsys: pytest.CaptureFixture[str]) -> None:
    """`--lr` is what other programs call a flag of training, which an export does not have."""
    with pytest.raises(SystemExit):
        EXPORT.parser("adamix-export").parse_args(["run", "bundle", flag, "1"])
    printed = capsys.readouterr().err
    assert error in printed
    assert "learning-rate" not in printed
