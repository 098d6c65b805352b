"""Stored tensors are read from one file of safetensors, in the usual types."""

import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from adamix_export.checkpoint.importers.stored import read_tensors
from adamix_train.errors import CheckpointError

WEIGHTS = "adapter_model.safetensors"


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.float16, torch.bfloat16])
def test_the_usual_types_are_read(dtype: torch.dtype, tmp_path: Path) -> None:
    save_file({"a": torch.ones(2, dtype=dtype), "shira_indices": torch.ones(2, dtype=torch.int32)}, tmp_path / WEIGHTS)
    assert read_tensors(tmp_path)["a"].dtype == dtype


@pytest.mark.parametrize(
    "dtype", [torch.float8_e4m3fn, torch.float8_e5m2, torch.int8, torch.int64, torch.bool, torch.complex64]
)
def test_another_type_is_refused_by_name(dtype: torch.dtype, tmp_path: Path) -> None:
    save_file({"a": torch.ones(2), "b": torch.ones(2).to(dtype)}, tmp_path / WEIGHTS)
    name = str(dtype).removeprefix("torch.")
    with pytest.raises(
        CheckpointError, match=rf"b in .*{WEIGHTS} is of type {name}; float64, float32, float16, bfloat"
    ):
        read_tensors(tmp_path)


def test_shards_are_named_with_a_way_to_join_them_that_works(tmp_path: Path) -> None:
    tensors = {name: torch.full((2,), float(index)) for index, name in enumerate("abc")}
    for index, name in enumerate(tensors):
        save_file({name: tensors[name]}, tmp_path / f"adapter_model-0000{index + 1}-of-00003.safetensors")
    with pytest.raises(CheckpointError, match=r"but 3 shards of it.*00001-of-00003.*join them") as error:
        read_tensors(tmp_path)
    code = str(error.value).partition('python -c "')[2].removesuffix('"')
    subprocess.run([sys.executable, "-c", code], check=True)
    assert load_file(tmp_path / WEIGHTS).keys() == tensors.keys()
    assert all(torch.equal(tensor, tensors[name]) for name, tensor in read_tensors(tmp_path).items())
