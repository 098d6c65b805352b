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


def draw(*, seed: int, step: int, view: int, site: str, num_modules: int, row: int | None = None) -> int:
    """Return a uniformly distributed module index in [0, num_modules), a function of the arguments alone."""
    key = f"{seed}/{step}/{view}/{site}" + ("" if row is None else f"/{row}")
    return int.from_bytes(hashlib.blake2b(key.encode(), digest_size=8).digest(), "big") % num_modules


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
    rows = [None] if route.rows is None else list(route.rows)
    for site, mixture in mixtures.items():
        mixture.route = tuple(
            draw(seed=seed, step=route.step, view=view, site=site, num_modules=mixture.num_modules, row=row)
            for view in range(route.views)
            for row in rows
        )
        mixture.indices = None
    if device is not None:
        table = torch.tensor([mixture.route for mixture in mixtures.values()]).to(device, non_blocking=True)
        for mixture, indices in zip(mixtures.values(), table, strict=True):
            mixture.indices = indices


def keep_route(mixtures: Mapping[str, MixtureLinear], route: Route, *, seed: int) -> None:
    """Give the module on `route` all the weight in the mean of its mixture: it alone is evaluated and exported."""
    for site, mixture in mixtures.items():
        kept = draw(seed=seed, step=route.step, view=0, site=site, num_modules=mixture.num_modules)
        mixture.scores = torch.full_like(mixture.scores, -torch.inf)
        mixture.scores[kept] = 0.0
