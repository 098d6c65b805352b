import json
import subprocess
import sys
from collections.abc import Callable, Iterator

import pytest

from adamix_train.recipe.recipe import Recipe

SCRIPT = """
import sys
{imports}
from peft import PeftModel
from transformers import AutoModelForSequenceClassification
base = AutoModelForSequenceClassification.from_pretrained({base!r}, num_labels=2)
print(type(PeftModel.from_pretrained(base, {checkpoint!r}).base_model).__name__)
"""
INTERPRETERS = """
import json, os, sys
import torch
from transformers import AutoModelForSequenceClassification, BertForSequenceClassification

assert not {"peft", "adamix_train"} & set(sys.modules)
for line in sys.stdin:
    output, printed = os.pipe()
    if not os.fork():
        os.dup2(printed, 1)
        exec(json.loads(line))
        sys.exit()
    os.close(printed)
    with open(output) as stream:
        print(json.dumps(stream.read()), flush=True)
"""
"""Runs each line of its input in an interpreter of its own, which has imported torch and transformers already."""


@pytest.fixture(scope="module")
def run() -> Iterator[Callable[[str], str]]:
    """Run code where neither PEFT nor the package is imported; return what it prints."""
    command = [sys.executable, "-c", INTERPRETERS]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdin is not None and process.stdout is not None

        def run(code: str) -> str:
            print(json.dumps(code), file=process.stdin, flush=True)
            output: str = json.loads(process.stdout.readline())
            return output

        yield run
        process.stdin.close()


@pytest.mark.parametrize(
    "imports",
    [
        "import adamix_train",
        "import peft, adamix_train",
        "from adamix_train.peft_method import AdaMixConfig",
        "from adamix_train.training.methods import METHODS",
    ],
)
def test_importing_the_package_is_enough_to_load_a_checkpoint(
    imports: str, run: Callable[[str], str], shared_run: Recipe
) -> None:
    assert run(SCRIPT.format(imports=imports, base=shared_run.base, checkpoint=shared_run.out)) == "AdaMixModel\n"


def test_importing_the_package_before_torch_is_enough_too(shared_run: Recipe) -> None:
    imports = "import adamix_train; assert 'torch' not in sys.modules; import peft"
    script = SCRIPT.format(imports=imports, base=shared_run.base, checkpoint=shared_run.out)
    result = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert result.stdout == "AdaMixModel\n", result.stderr


@pytest.mark.parametrize("module", ["config", "layer", "model"])
def test_the_methods_own_modules_are_imported_alone(module: str, run: Callable[[str], str]) -> None:
    assert run(f"import adamix_train.peft_method.{module}; print('imported')") == "imported\n"
