import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from benchmarks.gpu.bundles import make_bundle
from benchmarks.gpu.checkpoints import make_weights
from benchmarks.gpu.models import BUNDLES, MODELS, bundles_of
from benchmarks.gpu.prepare import prepare
from benchmarks.gpu.setting import Setting
from tests.fixtures.shared_folders import made_once, session_folder

REHEARSAL = Setting(folder=Path(), provider="cpu", tiny=True)


@pytest.fixture(scope="session")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> Setting:
    """A rehearsal's folder as --prepare writes it: nothing in it is downloaded."""

    def make(folder: Path) -> None:
        prepare(replace(REHEARSAL, folder=folder / "setting"))

    return _copy(made_once(session_folder(tmp_path_factory) / "prepared", make), tmp_path_factory)


@pytest.fixture(scope="session")
def made(prepared: Setting, tmp_path_factory: pytest.TempPathFactory) -> Setting:
    """A copy of that folder with the bundles that the part `shapes` makes."""

    def make(folder: Path) -> None:
        setting = replace(prepared, folder=folder / "setting")
        shutil.copytree(prepared.folder, setting.folder)
        for name in bundles_of(prepared=False):
            model = BUNDLES[name].model
            make_weights(MODELS[model], setting.base(model))
            make_bundle(name, setting)

    return _copy(made_once(session_folder(tmp_path_factory) / "made", make), tmp_path_factory)


def _copy(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Setting:
    """Return a setting of this worker's own with what all workers share."""
    setting = replace(REHEARSAL, folder=tmp_path_factory.mktemp("gpu") / folder.name)
    shutil.copytree(folder / "setting", setting.folder)
    return setting
