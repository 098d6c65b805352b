import torch
from torch import Tensor, nn
from torch.nn import functional

from adamix_export.checkpoint.collapse import AdapterTensors
from adamix_export.tracing.merged import by_site, merge, weights_to

SITE = "block.dense"
X = torch.randn(3, 5, generator=torch.Generator().manual_seed(0))


def model() -> nn.ModuleDict:
    """A layer from 5 to 6 features, and a head."""
    torch.manual_seed(1)
    return nn.ModuleDict({"block": nn.ModuleDict({"dense": nn.Linear(5, 6)}), "classifier": nn.Linear(6, 2)})


def run(merged: nn.Module) -> Tensor:
    return merged.get_submodule("classifier")(merged.get_submodule(SITE)(X))


def head() -> AdapterTensors:
    return {"classifier.head.weight": torch.randn(2, 6), "classifier.head.bias": torch.randn(2)}


def test_lora_is_in_the_weight_and_the_head_is_the_adapters() -> None:
    base = model()
    down, up = torch.randn(2, 5), torch.randn(6, 2)
    adapter = {f"{SITE}.lora.down.weight": down, f"{SITE}.lora.up.weight": up, **head()}
    expected = functional.linear(
        base.get_submodule(SITE)(X) + X @ down.T @ up.T,
        adapter["classifier.head.weight"],
        adapter["classifier.head.bias"],
    )
    merged = merge(base, adapter)
    torch.testing.assert_close(run(merged), expected)
    assert type(merged.get_submodule(SITE)) is nn.Linear


def test_a_bottleneck_is_behind_its_layer() -> None:
    base = model()
    weights = {
        "down.weight": torch.randn(2, 6),
        "down.bias": torch.randn(2),
        "up.weight": torch.randn(6, 2),
        "up.bias": torch.randn(6),
    }
    y = base.get_submodule(SITE)(X)
    low = functional.gelu(y @ weights["down.weight"].T + weights["down.bias"])
    expected = base["classifier"](y + low @ weights["up.weight"].T + weights["up.bias"])
    merged = merge(base, {f"{SITE}.houlsby.{name}": weight for name, weight in weights.items()})
    torch.testing.assert_close(run(merged), expected)


def test_tensors_are_grouped_by_the_module_that_they_adapt() -> None:
    """A base may have a module called head itself."""
    names = [
        "encoder.layer.0.dense.lora.down.weight",
        "encoder.layer.0.dense.lora.up.weight",
        "encoder.layer.0.dense.houlsby.up.bias",
        "model.head.dense.head.weight",
        "classifier.head.bias",
    ]
    found = by_site({name: torch.tensor(index) for index, name in enumerate(names)})
    assert {site: {name: int(value) for name, value in tensors.items()} for site, tensors in found.items()} == {
        ("encoder.layer.0.dense", "lora"): {"down.weight": 0, "up.weight": 1},
        ("encoder.layer.0.dense", "houlsby"): {"up.bias": 2},
        ("model.head.dense", "head"): {"weight": 3},
        ("classifier", "head"): {"bias": 4},
    }


def test_stored_tensors_are_sorted_contiguous_and_of_one_dtype() -> None:
    given = {"b": torch.tensor([[1.0, 2.0], [3.0, 4.0]]).T, "a": torch.tensor([0.5], dtype=torch.float64)}
    found = weights_to(given, torch.float16)
    assert {name: weight.tolist() for name, weight in found.items()} == {"a": [0.5], "b": [[1.0, 3.0], [2.0, 4.0]]}
    assert list(found) == ["a", "b"]
    assert all(weight.dtype == torch.float16 and weight.is_contiguous() for weight in found.values())
