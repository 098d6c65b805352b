from pathlib import Path

import pytest
import torch

from benchmarks.gpu.ceilings import (
    COPY,
    PRODUCT,
    ceilings,
    copy_rate,
    installed,
    matrix_rate,
    measure_ceilings,
    synchronous,
)
from benchmarks.gpu.setting import Setting
from benchmarks.support.rounds import Timing

CUDA = Setting(folder=Path(), provider="cuda")
TINY = Setting(folder=Path(), provider="cpu", tiny=True)


def test_rates_are_operations_and_bytes_by_seconds() -> None:
    assert matrix_rate(CUDA, Timing([0.002])) == pytest.approx(2 * 8192**3 / 0.002)
    assert copy_rate(CUDA, Timing([0.001])) == pytest.approx(2 * 2**31 / 0.001)


def test_both_ceilings_are_measured_with_versions_and_providers() -> None:
    outcome = measure_ceilings(TINY)
    assert [str(row["ceiling"]).split()[0] for row in outcome.rows] == ["fp16", "0"]
    assert all(float(str(row["rate"])) > 0 for row in outcome.rows)
    assert "CPUExecutionProvider" in outcome.notes[0]
    assert outcome.versions["torch"].startswith(torch.__version__.split("+")[0])


def test_a_call_on_a_gpu_waits_for_it(monkeypatch: pytest.MonkeyPatch) -> None:
    order: list[str] = []
    monkeypatch.setattr(torch.cuda, "synchronize", lambda: order.append("waited"))
    assert synchronous(lambda: order.append("called"), CUDA)() is None
    assert order == ["called", "waited"]
    synchronous(lambda: order.append("called"), TINY)()
    assert order == ["called", "waited", "called"]


def test_the_calls_do_their_work() -> None:
    found = ceilings(TINY)
    product = found[PRODUCT]()
    assert isinstance(product, torch.Tensor) and product.dtype == torch.float16 and product.shape == (64, 64)
    copied = found[COPY]()
    assert isinstance(copied, torch.Tensor) and not copied.any()


def test_packages_that_are_not_installed_are_left_out() -> None:
    assert "no-such-package" not in installed(("torch", "no-such-package"))
