from pathlib import Path

import pytest

from adamix_train.recipe.flags import make_recipe
from benchmarks.quality.methods import CLASSIFIERS, WRITERS, Method
from benchmarks.quality.runs import Budget
from benchmarks.quality.tasks import SUBJECTS
from tests.benchmarks.quality.conftest import run


@pytest.mark.usefixtures("named_files")
@pytest.mark.parametrize("shots", [None, 16, 32])
@pytest.mark.parametrize("subject", SUBJECTS)
def test_every_method_takes_as_many_steps_and_rows_as_the_others(subject: str, shots: int | None) -> None:
    """Rows through the base in a step, and steps."""
    budgets = set()
    for name, method in SUBJECTS[subject].methods.items():
        recipe = make_recipe(
            None, run(name, subject=subject, budget=Budget(shots=shots)).recipe(Path("base"), Path("out"))
        )
        examples = 2 * shots if shots else SUBJECTS[subject].examples
        budgets.add((recipe.batch_size * method.views, round(recipe.epochs * examples / recipe.batch_size)))
        assert (method.views == 2) == bool(recipe.consistency_weight)
    assert len(budgets) == 1


def test_every_method_has_as_many_rates_to_choose_from() -> None:
    for methods in (CLASSIFIERS, WRITERS):
        assert len({len(method.rates) for method in methods.values()}) == 1


@pytest.mark.parametrize("method", [*CLASSIFIERS.values(), *WRITERS.values()], ids=lambda method: method.what)
def test_rates_rise_so_that_the_first_and_the_last_are_the_edges(method: Method) -> None:
    assert list(method.rates) == sorted(set(method.rates))
