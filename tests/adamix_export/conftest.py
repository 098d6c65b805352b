"""Tiny checkpoints and their exports; each is made once a session, and a test that changes one works on a copy."""

import shutil
import signal
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path

import pytest

from adamix_export.checkpoint.checkpoint import open_checkpoint
from adamix_export.cli import main
from adamix_export.parity.bounds import Check
from adamix_export.parity.report import Parity
from adamix_export.parity.verification import verify
from adamix_export.pipeline.export import EXPORTS
from adamix_export.pipeline.options import Options
from adamix_train.recipe.recipe import Recipe
from adamix_train.run.train import train
from tests.adamix_train.conftest import make_writer, tiny_base, tiny_data, writing_data
from tests.fixtures.device_seam import device_paths
from tests.fixtures.generation_banks import generative_checkpoint
from tests.fixtures.shared_folders import session_folder
from tests.fixtures.traced_graphs import traced_once

__all__ = ["device_paths", "tiny_base", "tiny_data", "writing_data"]


def trained(folder: Path, base: Path, data: Path, **fields: object) -> Path:
    common = {"r": 4, "epochs": 1, "batch_size": 8, "learning_rate": 3e-2, "max_length": 16, "validation_share": 0.25}
    recipe = {"base": str(base), "train_file": str(data), "test_file": str(data), "out": str(folder)}
    train(Recipe(**{**recipe, **common, **fields}))
    return folder


@pytest.fixture(scope="session")
def noun_data(tiny_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tiny sentences again, with one of three labels: the word that they start with."""
    lines = tiny_data.read_text().splitlines()[1:]
    file = tmp_path_factory.mktemp("data") / "start.csv"
    file.write_text(
        "\n".join(["text,label", *(f"{line.partition(',')[0]},{line.split()[0]}" for line in lines)]) + "\n"
    )
    return file


@pytest.fixture(scope="session")
def houlsby(tiny_base: Path, tiny_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return trained(tmp_path_factory.mktemp("runs") / "houlsby", tiny_base, tiny_data, kind="houlsby", num_modules=3)


@pytest.fixture(scope="session")
def lora(tiny_base: Path, noun_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return trained(tmp_path_factory.mktemp("runs") / "lora", tiny_base, noun_data, kind="lora", r=6, lora_alpha=12)


MakeGenerative = Callable[[str, str], Path]


@pytest.fixture(scope="session")
def generative(writing_data: Path, tmp_path_factory: pytest.TempPathFactory) -> MakeGenerative:
    """Checkpoints with random adapters by the base's family and the adapter's kind."""

    @cache
    def base(family: str) -> Path:
        return make_writer(tmp_path_factory.mktemp(family), family)

    @cache
    def checkpoint(family: str, kind: str) -> Path:
        folder = tmp_path_factory.mktemp("runs") / f"{family}-{kind}"
        return generative_checkpoint(folder, base(family), writing_data, kind=kind)

    return checkpoint


class Exports:
    """Exports by their arguments, each made once and verified; a graph is traced once, whatever the options."""

    def __init__(self, new_folder: Callable[[], Path], graphs: Path) -> None:
        self.new_folder, self.graphs = new_folder, graphs
        self.made: dict[tuple[object, ...], tuple[Path, dict[str, Parity]]] = {}

    def __call__(self, shape: str, *checkpoints: Path | str, **options: object) -> Path:
        """The folder of an export, which no test may change."""
        return self.get(shape, *checkpoints, **options)[0]

    def get(self, shape: str, *checkpoints: Path | str, **options: object) -> tuple[Path, dict[str, Parity]]:
        key = (shape, *map(str, checkpoints), *sorted((name, str(value)) for name, value in options.items()))
        if key not in self.made:
            out = self.new_folder() / "out"
            self.made[key] = (out, self.run(out, shape, *checkpoints, **options))
        return self.made[key]

    def run(self, out: Path, shape: str, *checkpoints: Path | str, **options: object) -> dict[str, Parity]:
        """Export to `out`, with the graph that an earlier export of equal checkpoints has traced."""
        with traced_once(self.graphs):
            return run_export(out, shape, *checkpoints, **options)


def run_export(out: Path, shape: str, *checkpoints: Path | str, **options: object) -> dict[str, Parity]:
    """Export as the command does; a bundle is verified."""
    opened = [open_checkpoint(str(checkpoint)) for checkpoint in checkpoints]
    check = Check(**{name: options.pop(name) for name in ("data", "limit") if name in options})
    reports = EXPORTS[shape](opened, out, Options(check=check, **options), lambda stage: None)
    if shape != "adapter":
        assert verify(out).adapters == list(reports)
    return reports


@pytest.fixture(scope="session")
def exported(tmp_path_factory: pytest.TempPathFactory) -> Exports:
    graphs = session_folder(tmp_path_factory) / "graphs"
    return Exports(lambda: tmp_path_factory.mktemp("exports"), graphs)


Export = Callable[..., dict[str, Parity]]


@pytest.fixture
def export(exported: Exports, tmp_path: Path) -> Export:
    """Put a copy of an export into a folder of the test's own.

    `fresh` exports there, for what a test patches or sees fail. So does `again`, but for the graph, which is that of
    earlier exports: for what a test patches or sees fail after tracing.
    """

    def run(
        shape: str,
        *checkpoints: Path | str,
        out: str = "out",
        fresh: bool = False,
        again: bool = False,
        **options: object,
    ) -> dict[str, Parity]:
        if fresh or again:
            return (run_export if fresh else exported.run)(tmp_path / out, shape, *checkpoints, **options)
        folder, reports = exported.get(shape, *checkpoints, **options)
        shutil.copytree(folder, tmp_path / out)
        return reports

    return run


@pytest.fixture
def command(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[..., None]]:
    """Run adamix-export in this process; give back the signals that it takes for itself."""
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    with traced_once(session_folder(tmp_path_factory) / "graphs"):
        yield lambda *arguments: main([str(argument) for argument in arguments])
    for number, handler in before.items():
        signal.signal(number, handler)
