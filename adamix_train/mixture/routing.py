"""Choose the module that each mixture uses in a forward pass (AdaMix, section 3.1)."""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass

import torch

from adamix_train.mixture.projection import MixtureLinear


@dataclass(frozen=True, kw_only=True)
class Route:
    """Arguments of a forward pass's random draws: each draw is a hash of (seed, step, view, row, site).

    No generator is involved, so that routes are the same on every data-parallel rank, after a resume, and when
    gradient checkpointing recomputes a layer.
    """

    step: int
    """Number of the forward pass; two passes with the same step take the same route."""

    views: int = 1
    """Copies of its rows that the batch holds, one after the other, each with its own draw."""

    rows: range | None = None
    """Numbers of a view's rows in the global batch, each with its own draw; None draws once per view."""

    shares: int = 0
    """Rows of a view that are divided equally among the modules, a row of another view going to another module; 0 draws
    instead."""

    only: int | None = None
    """The module that all rows take; None draws."""


def draw(*, seed: int, step: int, view: int, site: str, num_modules: int, row: int | None = None) -> int:
    """Return a uniformly distributed module index in [0, num_modules), a function of the arguments alone."""
    key = f"{seed}/{step}/{view}/{site}" + ("" if row is None else f"/{row}")
    return _digest(key) % num_modules


def set_route(
    mixtures: Mapping[str, MixtureLinear], route: Route, *, seed: int, device: torch.device | None = None
) -> None:
    """Set the module of every mixture for each share of the batch; `down` and `up` are separate sites.

    Args:
        mixtures: Mixtures by site.
        route: Arguments of the draws.
        seed: Seed of the draws.
        device: Device to which the routes go as well, in one copy, for compiled code; None for code that is not.
    """
    most = max((mixture.num_modules for mixture in mixtures.values()), default=1)
    for site, mixture in mixtures.items():
        if route.only is not None:
            mixture.route = (route.only % mixture.num_modules,) * route.views
        elif route.shares:
            mixture.route = _shares(route, site, mixture.num_modules, most, seed)
        else:
            mixture.route = _draws(route, site, mixture.num_modules, seed)
        mixture.indices = None
    if device is not None:
        table = torch.tensor([mixture.route for mixture in mixtures.values()]).to(device, non_blocking=True)
        for mixture, indices in zip(mixtures.values(), table, strict=True):
            mixture.indices = indices


def _draws(route: Route, site: str, num_modules: int, seed: int) -> tuple[int, ...]:
    rows = [None] if route.rows is None else list(route.rows)
    return tuple(
        draw(seed=seed, step=route.step, view=view, site=site, num_modules=num_modules, row=row)
        for view in range(route.views)
        for row in rows
    )


def _shares(route: Route, site: str, num_modules: int, most: int, seed: int) -> tuple[int, ...]:
    """Return a module for each of a view's equal blocks of rows, `most` of them, or for each row if they do not divide.

    The modules are in a random order; the order of a further view is turned by a random number of places, so that no
    row meets its module again.
    """
    blocks = most if route.shares % most == 0 else route.shares
    order = sorted(range(num_modules), key=lambda module: _digest(f"{seed}/{route.step}/{site}/{module}"))
    turns = [0, *(1 + _digest(f"{seed}/{route.step}/{site}/turn") % max(1, num_modules - 1),) * (route.views - 1)]
    return tuple(
        order[(block * num_modules // blocks + turns[view]) % num_modules]
        for view in range(route.views)
        for block in range(blocks)
    )


def _digest(key: str) -> int:
    return int.from_bytes(hashlib.blake2b(key.encode(), digest_size=8).digest(), "big")


def keep_route(mixtures: Mapping[str, MixtureLinear], route: Route, *, seed: int) -> None:
    """Give the module on `route` all the weight in the mean of its mixture: it alone is evaluated and exported."""
    for site, mixture in mixtures.items():
        mixture.keep_only(draw(seed=seed, step=route.step, view=0, site=site, num_modules=mixture.num_modules))
