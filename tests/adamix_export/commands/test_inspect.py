from pathlib import Path

from adamix_export.commands.bundle_contents import inspect_bundle
from adamix_export.commands.inspect import describe
from tests.adamix_export.conftest import Export


def test_people_read_adapters_edges_ops_parity_and_sizes(
    export: Export, houlsby: Path, lora: Path, tmp_path: Path
) -> None:
    export("bank", f"tone={houlsby}", f"start={lora}")
    text = describe(inspect_bundle(tmp_path / "out"))
    for expected in (
        "text-classification, bank, fp32",
        "tone   houlsby  4  3 ",
        "input_ids       int64  batch × sequence",
        "2 com.microsoft.MultiHeadAttention",
        "model.onnx.data",
        "accuracy, start.csv",
    ):
        assert expected in text, text
