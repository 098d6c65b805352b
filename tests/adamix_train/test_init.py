import subprocess
import sys

import peft
import pytest

import adamix_train
from adamix_train.peft_method.config import AdaMixConfig
from adamix_train.training.trainer import AdaMixTrainer


def test_the_public_names_are_those_of_their_modules() -> None:
    assert adamix_train.__all__ == sorted(adamix_train.EXPORTS)
    assert adamix_train.AdaMixConfig is AdaMixConfig
    assert adamix_train.AdaMixTrainer is AdaMixTrainer
    assert issubclass(adamix_train.AdaMixConfig, peft.PeftConfig)
    assert callable(adamix_train.train)


def test_importing_the_package_imports_no_torch() -> None:
    script = "import sys, adamix_train; from adamix_train import Recipe, train; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", script]).returncode == 0


def test_an_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="has no attribute 'Mixture'"):
        _ = adamix_train.Mixture
