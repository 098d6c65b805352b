"""Choose, before a forward pass, the module that each mixture uses."""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass

import torch

from adamix_train.mixture.projection import MixtureLinear


@dataclass(frozen=True, kw_only=True)
class Route:
    """What a training forward is drawn from: a route is a function of (seed, step, view, row, site) and nothing else.

    It needs no random state, so that it is the same on every data-parallel rank, after a resume, and when gradient
    checkpointing runs a layer again.
    """

    step: int
    """Counts forward passes; two passes with the same step take the same route."""

    views: int = 1
    """The batch holds this many copies of its rows, one after the other, each with a draw of its own."""

    rows: range | None = None
    """Draws for each row of a view, whose numbers in the global batch these are; None draws once for the batch."""


def draw(*, seed: int, step: int, view: int, site: str, num_modules: int, row: int | None = None) -> int:
    """Return a uniform module index in [0, num_modules), the same on every machine for the same arguments."""
    key = f"{seed}/{step}/{view}/{site}" + ("" if row is None else f"/{row}")
    return int.from_bytes(hashlib.blake2b(key.encode(), digest_size=8).digest(), "big") % num_modules


def set_route(mixtures: Mapping[str, MixtureLinear], route: Route, *, seed: int) -> None:
    """Give every mixture its module for each share of the batch; down and up projections are sites of their own."""
    rows = [None] if route.rows is None else list(route.rows)
    for site, mixture in mixtures.items():
        mixture.route = tuple(
            draw(seed=seed, step=route.step, view=view, site=site, num_modules=mixture.num_modules, row=row)
            for view in range(route.views)
            for row in rows
        )


def keep_route(mixtures: Mapping[str, MixtureLinear], route: Route, *, seed: int) -> None:
    """Make the module on a route the whole mean of its mixture: what evaluates and ships is that module alone."""
    for site, mixture in mixtures.items():
        kept = draw(seed=seed, step=route.step, view=0, site=site, num_modules=mixture.num_modules)
        mixture.scores = torch.full_like(mixture.scores, -torch.inf)
        mixture.scores[kept] = 0.0
