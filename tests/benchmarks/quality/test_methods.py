from pathlib import Path

import pytest

from adamix_train.recipe.defaults import Situation, complete
from adamix_train.recipe.flags import make_recipe
from benchmarks.quality.methods import CLASSIFIERS, WRITERS, Method
from benchmarks.quality.runs import Budget
from benchmarks.quality.tasks import SUBJECTS
from tests.benchmarks.quality.conftest import run


@pytest.mark.usefixtures("named_files")
@pytest.mark.parametrize("shots", [None, 16, 32])
@pytest.mark.parametrize("subject", SUBJECTS)
def test_every_method_takes_as_many_steps_and_rows_as_the_others(subject: str, shots: int | None) -> None:
    """Passes over the examples, and steps; a batch is a whole number of rows, so that both are within a tenth."""
    passes, steps = [], []
    for name, method in SUBJECTS[subject].methods.items():
        recipe = make_recipe(
            None, run(name, subject=subject, budget=Budget(shots=shots)).recipe(Path("base"), Path("out"))
        )
        examples = 2 * shots if shots else SUBJECTS[subject].examples
        assert recipe.batch_size and recipe.epochs
        passes.append(recipe.epochs * method.views)
        steps.append(recipe.epochs * examples / recipe.batch_size)
        situation = Situation(rows=examples, width=384, task="generation" if subject == "e2e" else "classification")
        full = complete(recipe, situation).recipe
        assert full.consistency_from is not None
        views = 1 + (1 - full.consistency_from) * bool(full.consistency_weight or full.labels_on == "both")
        assert method.views == views
    assert passes == pytest.approx([passes[0]] * len(passes))
    assert steps == pytest.approx([steps[0]] * len(steps), rel=0.1)


def test_every_method_has_as_many_rates_to_choose_from() -> None:
    for methods in (CLASSIFIERS, WRITERS):
        assert len({len(method.rates) for method in methods.values()}) == 1


@pytest.mark.parametrize("method", [*CLASSIFIERS.values(), *WRITERS.values()], ids=lambda method: method.what)
def test_rates_rise_so_that_the_first_and_the_last_are_the_edges(method: Method) -> None:
    assert list(method.rates) == sorted(set(method.rates))


@pytest.mark.parametrize("name", [name for name in CLASSIFIERS if name.startswith("adamix")])
def test_what_is_called_adamix_is_the_published_way(name: str) -> None:
    """The product's default is another one."""
    recipe = make_recipe(None, {"base": "b", "out": "o", **CLASSIFIERS[name].fields})
    full = complete(recipe, Situation(rows=1000, width=384)).recipe
    assert full.routing in ("batch", "example", "fixed")
    assert (full.consistency_from, full.labels_on) == (0.0, "first")
