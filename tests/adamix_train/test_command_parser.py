import pytest
from torch.distributed import run as torchrun

from adamix_train.cli import main
from adamix_train.command_parser import FOREIGN, CommandParser
from adamix_train.recipe.flags import add_flags


@pytest.fixture
def parser() -> CommandParser:
    parser = CommandParser(prog="adamix-train")
    add_flags(parser.add_argument_group("fields"))
    return parser


@pytest.mark.parametrize(
    ("flag", "meant"),
    [
        ("--learning-rat", "--learning-rate"),
        ("--lr", "--learning-rate"),
        ("--learning_rate", "--learning-rate"),
        ("--epoch", "--epochs"),
        ("--batchsize=3", "--batch-size"),
        ("--tain-file", "--train-file"),
    ],
)
def test_an_unknown_flag_is_one_line_that_names_the_one_that_was_meant(
    flag: str, meant: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as end:
        main(["--base", "b", "--out", "o", flag, "1"])
    assert end.value.code == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert f"unknown argument {flag.partition('=')[0]}: did you mean {meant}?" in error


def test_a_flag_like_no_other_is_refused_without_a_guess(parser: CommandParser) -> None:
    assert parser.nearest("--zzz") is None


def test_a_wrong_value_is_one_line(parser: CommandParser, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        parser.parse_args(["--kind", "prefix"])
    error = capsys.readouterr().err
    assert error.startswith("adamix-train: argument --kind: invalid choice: 'prefix'")
    assert error.count("\n") == 1


def test_foreign_flags_lead_to_flags_that_exist(parser: CommandParser) -> None:
    known = {option for action in parser._actions for option in action.option_strings}
    assert {ours.split()[0] for ours in FOREIGN.values()} <= known
    assert not known & FOREIGN.keys()


def test_every_field_has_a_flag_that_torchrun_passes_on(parser: CommandParser) -> None:
    for action in parser._actions:
        flags = [flag for flag in action.option_strings if flag.startswith("--") and flag not in ("--r", "--help")]
        for flag in flags:
            assert torchrun.parse_args(["-m", "adamix_train", flag, "1"]).training_script_args == [flag, "1"]
        assert flags or "--help" in action.option_strings


def test_rank_is_r(parser: CommandParser) -> None:
    assert parser.parse_args(["--rank", "4"]).r == parser.parse_args(["--r", "4"]).r == 4


def test_flags_stand_between_positional_arguments() -> None:
    parser = CommandParser(prog="adamix-export")
    parser.add_argument("checkpoints", nargs="+")
    parser.add_argument("--labels")
    found = parser.parse_args(["runs/tone", "--labels", "good,bad", "bundles/tone"])
    assert (found.checkpoints, found.labels) == (["runs/tone", "bundles/tone"], "good,bad")
