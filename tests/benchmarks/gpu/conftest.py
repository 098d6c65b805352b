import shutil
from dataclasses import replace

import pytest

from benchmarks.gpu.bundles import make_bundle
from benchmarks.gpu.checkpoints import make_weights
from benchmarks.gpu.models import BUNDLES, MODELS, bundles_of
from benchmarks.gpu.prepare import prepare
from benchmarks.gpu.setting import Setting


@pytest.fixture(scope="session")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> Setting:
    """A rehearsal's folder as --prepare writes it: nothing in it is downloaded."""
    setting = Setting(folder=tmp_path_factory.mktemp("gpu") / "prepared", provider="cpu", tiny=True)
    prepare(setting)
    return setting


@pytest.fixture(scope="session")
def made(prepared: Setting, tmp_path_factory: pytest.TempPathFactory) -> Setting:
    """A copy of that folder with the bundles that the part `shapes` makes."""
    setting = replace(prepared, folder=tmp_path_factory.mktemp("gpu") / "made")
    shutil.copytree(prepared.folder, setting.folder)
    for name in bundles_of(prepared=False):
        model = BUNDLES[name].model
        make_weights(MODELS[model], setting.base(model))
        make_bundle(name, setting)
    return setting
