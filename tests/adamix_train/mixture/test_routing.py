from collections import Counter

import pytest
import torch
from torch.nn import functional

from adamix_train.mixture.projection import MixtureLinear
from adamix_train.mixture.routing import Route, draw, set_route


def test_a_draw_is_a_function_of_its_arguments() -> None:
    arguments = {"seed": 3, "step": 7, "view": 1, "site": "layer.0.down", "num_modules": 8}
    assert {draw(**arguments) for _ in range(10)} == {draw(**arguments)}


@pytest.mark.parametrize("name", ["seed", "step", "view", "site"])
def test_every_argument_matters(name: str) -> None:
    base = {"seed": 0, "step": 0, "view": 0, "site": "0", "num_modules": 16}
    values = [draw(**{**base, name: str(value) if name == "site" else value}) for value in range(64)]
    assert len(set(values)) > 8


def test_modules_are_drawn_uniformly() -> None:
    counts = Counter(draw(seed=0, step=step, view=0, site="s", num_modules=4) for step in range(4000))
    expected = 1000
    chi_squared = sum((counts[index] - expected) ** 2 / expected for index in range(4))
    assert chi_squared < 16.27, "the 0.1 % quantile of chi-squared with 3 degrees of freedom"


def test_down_and_up_are_drawn_independently() -> None:
    counts = Counter(
        tuple(draw(seed=0, step=step, view=0, site=site, num_modules=4) for site in ("l.down", "l.up"))
        for step in range(8000)
    )
    expected = 500
    chi_squared = sum((counts[i, j] - expected) ** 2 / expected for i in range(4) for j in range(4))
    assert chi_squared < 37.70, "the 0.1 % quantile of chi-squared with 15 degrees of freedom"


def test_each_view_has_its_own_route() -> None:
    mixtures = {f"site{index}": MixtureLinear(4, 2, 2, bias=False) for index in range(40)}
    set_route(mixtures, Route(step=0, views=2), seed=0)
    assert all(len(mixture.route) == 2 for mixture in mixtures.values())
    assert any(mixture.route[0] != mixture.route[1] for mixture in mixtures.values())


def test_a_shared_projection_has_one_way() -> None:
    shared = MixtureLinear(1, 2, 2, bias=True)
    set_route({"s": shared}, Route(step=5, views=2), seed=0)
    assert shared.route == (0, 0)


def test_a_route_for_each_example_is_that_of_its_row_alone() -> None:
    torch.manual_seed(0)
    mixtures = {"site": MixtureLinear(4, 6, 5, bias=True)}
    mixture = mixtures["site"]
    for parameter in mixture.parameters():
        torch.nn.init.normal_(parameter)
    x = torch.randn(8, 3, 6)
    set_route(mixtures, Route(step=0, views=2, rows=range(4, 8)), seed=0)
    y = mixture(x)
    assert len(set(mixture.route)) > 1
    for row, index in enumerate(mixture.route):
        weight, bias = mixture.module(index)
        torch.testing.assert_close(y[row], functional.linear(x[row], weight, bias))
    route = mixture.route
    set_route(mixtures, Route(step=0, views=1, rows=range(8)), seed=0)
    assert mixture.route[4:] == route[:4], "rows are numbered over all ranks"


def test_a_route_on_a_device_is_the_route_and_goes_through_the_same_modules() -> None:
    torch.manual_seed(0)
    mixtures = {name: MixtureLinear(4, 6, 5, bias=name == "down") for name in ("down", "up", "other")}
    mixtures["shared"] = MixtureLinear(1, 6, 5, bias=True)
    for mixture in mixtures.values():
        for parameter in mixture.parameters():
            torch.nn.init.normal_(parameter)
    x = torch.randn(8, 3, 6)
    for route in (Route(step=3, views=2), Route(step=4), Route(step=5, views=2, rows=range(4))):
        set_route(mixtures, route, seed=0)
        expected = {site: mixture(x) for site, mixture in mixtures.items()}
        set_route(mixtures, route, seed=0, device=torch.device("cpu"))
        for site, mixture in mixtures.items():
            assert mixture.indices is not None
            assert tuple(mixture.indices.tolist()) == mixture.route
            torch.testing.assert_close(mixture(x), expected[site])
    set_route(mixtures, Route(step=6), seed=0)
    assert all(mixture.indices is None for mixture in mixtures.values())


def test_every_module_gets_an_equal_share_and_no_row_its_module_again() -> None:
    mixtures = {name: MixtureLinear(4, 2, 2, bias=False) for name in ("a", "b", "c")}
    mixtures["shared"] = MixtureLinear(1, 2, 2, bias=False)
    orders = set()
    for step in range(40):
        set_route(mixtures, Route(step=step, views=2, shares=8), seed=0)
        for name in ("a", "b", "c"):
            first, second = mixtures[name].route[:4], mixtures[name].route[4:]
            assert sorted(first) == sorted(second) == [0, 1, 2, 3]
            assert all(one != other for one, other in zip(first, second, strict=True))
        orders.add((mixtures["a"].route, mixtures["b"].route))
        assert mixtures["shared"].route == (0,) * 8
    assert len(orders) > 30, "sites and steps differ"


@pytest.mark.parametrize("rows", [1, 3, 6, 7])
def test_shares_of_a_batch_that_modules_do_not_divide_differ_by_one_row(rows: int) -> None:
    mixture = MixtureLinear(4, 2, 2, bias=False)
    set_route({"a": mixture, "shared": MixtureLinear(1, 2, 2, bias=False)}, Route(step=3, views=2, shares=rows), seed=1)
    for view in (mixture.route[:rows], mixture.route[rows:]):
        counts = Counter(view)
        assert len(view) == rows
        assert max(counts.values()) - min(counts[module] for module in range(4)) <= 1


def test_rows_of_a_share_are_projected_by_its_module() -> None:
    torch.manual_seed(0)
    mixture = MixtureLinear(4, 6, 5, bias=True)
    for parameter in mixture.parameters():
        torch.nn.init.normal_(parameter)
    x = torch.randn(16, 3, 6)
    set_route({"a": mixture}, Route(step=0, views=2, shares=8), seed=0)
    y = mixture(x)
    for row in range(16):
        module = mixture.route[row // 2]
        torch.testing.assert_close(y[row], functional.linear(x[row], *mixture.module(module)), atol=1e-5, rtol=1e-5)


def test_one_module_can_take_all_rows() -> None:
    mixtures = {"a": MixtureLinear(4, 2, 2, bias=False), "shared": MixtureLinear(1, 2, 2, bias=False)}
    set_route(mixtures, Route(step=9, views=2, only=0), seed=0)
    assert mixtures["a"].route == mixtures["shared"].route == (0, 0)
