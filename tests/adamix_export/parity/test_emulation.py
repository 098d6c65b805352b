"""The bundle that a comparison runs in the place of one that the CPU cannot compute."""

from pathlib import Path

import pytest

from adamix_export.parity.emulation import runnable_on_cpu
from serve.bundle.reader import open_bundle
from serve.generation.generator import Generator
from tests.adamix_export.conftest import Export, MakeGenerative

pytestmark = pytest.mark.slow


def test_an_emulation_reads_the_bundles_weights_and_leaves_nothing_behind(
    generative: MakeGenerative, export: Export, tmp_path: Path
) -> None:
    export("bank", generative("t5", "houlsby"), precision="bf16")
    assert "The graph (bf16, emulated on the CPU) in ONNX" in (tmp_path / "out" / "README.md").read_text("utf-8")
    before = sorted(tmp_path.iterdir())
    bundle = open_bundle(tmp_path / "out")
    with runnable_on_cpu(bundle) as emulated:
        for name in ("model.onnx.data", "encoder.onnx.data"):
            assert (emulated.folder / name).samefile(bundle.folder / name)
        assert {edge.dtype for edge in emulated.manifest.inputs} == {"tensor(int64)", "tensor(float)"}
        assert Generator(emulated, provider="cpu")(["good"])
    assert sorted(tmp_path.iterdir()) == before
    assert open_bundle(tmp_path / "out").manifest == bundle.manifest, "every hash holds"


def test_what_the_cpu_computes_is_compared_itself(generative: MakeGenerative, export: Export, tmp_path: Path) -> None:
    export("bank", generative("gpt2", "lora"))
    bundle = open_bundle(tmp_path / "out")
    with runnable_on_cpu(bundle) as same:
        assert same is bundle
