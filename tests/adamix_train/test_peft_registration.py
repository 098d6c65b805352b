import subprocess
import sys
from pathlib import Path

import pytest

from adamix_train.recipe.recipe import Recipe

SCRIPT = """
import sys
{imports}
from peft import PeftModel
from transformers import AutoModelForSequenceClassification
base = AutoModelForSequenceClassification.from_pretrained(sys.argv[1], num_labels=2)
print(type(PeftModel.from_pretrained(base, sys.argv[2]).base_model).__name__)
"""


@pytest.mark.parametrize(
    "imports",
    [
        "import adamix_train",
        "import peft, adamix_train",
        "import adamix_train; assert 'torch' not in sys.modules; import peft",
        "from adamix_train.peft_method import AdaMixConfig",
        "from adamix_train.training.methods import METHODS",
    ],
)
def test_importing_the_package_is_enough_to_load_a_checkpoint(imports: str, shared_run: Recipe) -> None:
    command = [sys.executable, "-c", SCRIPT.format(imports=imports), shared_run.base, shared_run.out]
    result = subprocess.run(command, capture_output=True, text=True)
    assert result.stdout == "AdaMixModel\n", result.stderr


@pytest.mark.parametrize("module", ["config", "layer", "model"])
def test_the_methods_own_modules_are_imported_alone(module: str) -> None:
    script = f"import adamix_train.peft_method.{module}"
    assert subprocess.run([sys.executable, "-c", script], cwd=Path.cwd()).returncode == 0
