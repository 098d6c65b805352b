from pathlib import Path

import pytest

from adamix_train.errors import RecipeError
from adamix_train.recipe.flags import make_recipe
from adamix_train.recipe.recipe import Recipe

NEEDED = {"base": "b", "train_file": "t.csv", "out": "o"}


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("r.yaml", "base: b\ntrain_file: t.csv\nout: o\nlearning_rate: 1e-3\nepochs: 3\n"),
        ("r.toml", 'base = "b"\ntrain_file = "t.csv"\nout = "o"\nlearning_rate = 1e-3\nepochs = 3\n'),
    ],
)
def test_yaml_and_toml_say_the_same(tmp_path: Path, name: str, content: str) -> None:
    (tmp_path / name).write_text(content)
    assert make_recipe(tmp_path / name, {}) == Recipe(**NEEDED, learning_rate=1e-3, epochs=3.0)


def test_a_flag_wins_over_the_file(tmp_path: Path) -> None:
    (tmp_path / "r.yaml").write_text("base: b\ntrain_file: t.csv\nout: o\nr: 8\n")
    assert make_recipe(tmp_path / "r.yaml", {"r": 4}).r == 4


def test_files_may_be_a_list() -> None:
    assert make_recipe(None, {**NEEDED, "train_file": ["a.csv", "b.csv"]}).train_file == "a.csv,b.csv"


def test_what_is_missing_is_named_with_its_flag() -> None:
    with pytest.raises(RecipeError, match=r"lacks out: give a flag \(--out\)"):
        make_recipe(None, {"base": "b"})


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("r.yaml", "a: [", "is not valid YAML"),
        ("r.toml", "a = ", "is not valid TOML"),
        ("r.yaml", "just words", "holds no fields"),
        ("r.json", "{}", r"ends in \.json; recipes end in \.toml, \.yaml, \.yml"),
    ],
)
def test_an_error_says_what_is_wrong_with_a_file(tmp_path: Path, name: str, content: str, message: str) -> None:
    (tmp_path / name).write_text(content)
    with pytest.raises(RecipeError, match=message):
        make_recipe(tmp_path / name, {})


def test_a_missing_recipe_is_named(tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match=r"cannot read recipe .*No such file"):
        make_recipe(tmp_path / "r.yaml", {})


@pytest.mark.parametrize(
    ("suffix", "text", "message"),
    [
        (".yaml", "r: !!bool x", "is not valid YAML: a value does not fit its tag"),
        (".yaml", "r: !!int ''", "is not valid YAML: a value does not fit its tag"),
        (".yaml", "r: !!timestamp x", "is not valid YAML: a value does not fit its tag"),
        (".yaml", "- " * 5000, "is not valid YAML: maximum recursion depth"),
        (".toml", "r = " + "[" * 5000, "is not valid TOML: maximum recursion depth"),
        (".toml", "r = 1" + "0" * 400, "r is 10000.*…; it takes a whole number"),
        (".toml", "r = 0x" + "f" * 5000, "r is a value of the type int that is too long to show; it takes a whole"),
        (".yaml", "? 0x" + "f" * 5000 + "\n: 1", "unknown field a value of the type int that is too long to show"),
        (".yaml", 'out: "\\0"', r"out is '\\x00'; it takes a text without null characters"),
        (".yaml", 'out: "\\ud800"', r"out is '\\ud800'; it takes a text .* in whole Unicode"),
    ],
)
def test_what_a_parser_fails_on_is_one_line(suffix: str, text: str, message: str, tmp_path: Path) -> None:
    file = tmp_path / f"recipe{suffix}"
    file.write_text(text)
    with pytest.raises(RecipeError, match=message) as error:
        make_recipe(file, {"base": "b"} if "out:" in text else {"base": "b", "out": "o"})
    assert "\n" not in str(error.value)
