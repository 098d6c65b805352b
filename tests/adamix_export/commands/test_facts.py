from argparse import ArgumentParser
from pathlib import Path

import pytest

from adamix_export.checkpoint.facts import Facts
from adamix_export.commands.facts import add_fact_flags, read_facts, require_used
from adamix_export.errors import ExportError


def read(*arguments: str) -> dict[str, Facts]:
    parser = ArgumentParser()
    add_fact_flags(parser)
    return read_facts(parser.parse_args(arguments), ["tone", "intent"])


def test_a_value_without_a_name_is_for_all() -> None:
    assert read("--max-length", "32") == {"tone": Facts(max_length=32), "intent": Facts(max_length=32)}
    assert read() == {"tone": Facts(), "intent": Facts()}


def test_a_value_with_a_name_goes_before_one_for_all_in_any_order() -> None:
    found = read("--labels", "tone=bad, good", "--labels", "a,b", "--task", "intent=pair-classification")
    assert found == {
        "tone": Facts(labels=("bad", "good")),
        "intent": Facts(labels=("a", "b"), task="pair-classification"),
    }


def test_an_equals_sign_behind_anything_but_a_name_belongs_to_the_value() -> None:
    assert read("--prompt", "question={input}")["tone"].prompt == "question={input}"


@pytest.mark.parametrize(
    ("flag", "text", "told"),
    [
        ("--labels", "tonne=a,b", "--labels tonne=a,b: tonne is no checkpoint; there are tone, intent"),
        ("--max-length", "tonne=3", "--max-length tonne=3: tonne is no checkpoint"),
        ("--labels", "a,,c", "'a,,c' .--labels. has an empty label"),
    ],
)
def test_a_name_that_no_checkpoint_has_and_an_empty_label_are_refused(flag: str, text: str, told: str) -> None:
    with pytest.raises(ExportError, match=told):
        read(flag, text)


def test_a_label_with_an_equals_sign_is_given_by_name() -> None:
    assert read("--labels", "tone=a=b,c")["tone"].labels == ("a=b", "c")


def test_a_length_that_is_no_number_is_refused() -> None:
    with pytest.raises(ExportError, match=r"many .* is not a whole number above 0"):
        read("--max-length", "many")


def test_a_run_that_states_its_own_is_not_told_otherwise(tmp_path: Path) -> None:
    require_used(Facts(max_length=8), tmp_path, "merged")
    (tmp_path / "adamix.json").touch()
    require_used(Facts(), tmp_path, "merged")
    with pytest.raises(ExportError, match=r"states its own: leave out --max-length, or give it to another"):
        require_used(Facts(max_length=8), tmp_path, "merged")


@pytest.mark.parametrize("facts", [Facts(rank=4), Facts(rank_energy=0.9)])
def test_a_rank_is_for_banks(facts: Facts, tmp_path: Path) -> None:
    require_used(facts, tmp_path, "bank")
    with pytest.raises(ExportError, match="merged is exact: leave them out, or give --shape bank"):
        require_used(facts, tmp_path, "merged")
