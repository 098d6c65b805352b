"""Schedulers that verify guesses at every step, whatever it costs, over a decoder that is computed by hand."""

from serve.generation.generator import Generator
from serve.generation.prompt_lookup.step_costs import StepCosts
from serve.generation.scheduler import ContinuousBatchScheduler
from tests.fixtures.sequences import new_scheduler


class FreeGuesses(StepCosts):
    """Costs under which every guess is worth it, in a batch as well."""

    def row(self, tokens: int) -> float:
        """Return next to nothing."""
        return 0.001

    def batch(self, rows: int) -> float:
        """Return much more."""
        return 1.0


def eager_scheduler(generator: Generator, most: int = 7, **limits: int) -> ContinuousBatchScheduler:
    """Return a scheduler that verifies up to `most` guesses of every row in every step."""
    scheduler = new_scheduler(generator, prompt_lookup=most, **limits)
    scheduler.lookup.costs = FreeGuesses("fp32")
    return scheduler
