from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pytest

from serve.bundle.manifest import parse_manifest
from serve.bundle.reader import Bundle
from serve.errors import BundleError


def test_a_manifest_comes_back(bundle: Bundle) -> None:
    assert parse_manifest(asdict(bundle.manifest), bundle.folder) == bundle.manifest


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"format_version": 2}, "has bundle format 2; this version reads 1"),
        ({"shape": "round"}, "has shape 'round'; known are merged, bank"),
        ({"colour": "red"}, "has the unknown field 'colour': it is of another version"),
        ({"files": {}}, r"is incomplete: its manifest does not list model\.onnx"),
    ],
)
def test_a_wrong_manifest_is_refused(changes: dict[str, Any], message: str, bundle: Bundle) -> None:
    with pytest.raises(BundleError, match=message):
        parse_manifest({**asdict(bundle.manifest), **changes}, Path("bundle"))


def test_an_earlier_manifest_has_no_share_of_quantized_weights(bundle: Bundle) -> None:
    content = asdict(replace(bundle.manifest, quantized_share=0.7))
    assert parse_manifest(content, bundle.folder).quantized_share == 0.7
    del content["quantized_share"]
    assert parse_manifest(content, bundle.folder).quantized_share is None


def test_a_missing_field_is_named(bundle: Bundle) -> None:
    content = asdict(bundle.manifest)
    del content["outputs"]
    with pytest.raises(BundleError, match="lacks the field outputs: it is of another version, or damaged"):
        parse_manifest(content, Path("bundle"))


@pytest.mark.parametrize(("precision", "most"), [("fp32", 0.5), ("fp16", 1.0), ("int8", 4.0), ("int4", 20.0)])
def test_a_manifest_cannot_switch_off_the_proof_of_its_adapters(precision: str, most: float, bundle: Bundle) -> None:
    content = {**asdict(bundle.manifest), "precision": precision}
    assert parse_manifest({**content, "canary_tolerance": most}, Path("bundle")).canary_tolerance == most
    with pytest.raises(BundleError, match=rf"which proves nothing: {precision} may have {most:g}; export it again"):
        parse_manifest({**content, "canary_tolerance": 1.01 * most}, Path("bundle"))
