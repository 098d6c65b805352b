import shutil
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import onnx_ir as ir
import pytest

from adamix_export.parity.bounds import Bounds
from adamix_export.pipeline.bundle_parts import BundleBuild
from adamix_export.pipeline.options import Options
from adamix_export.pipeline.rewriting import CALIBRATION_TEXTS, calibration_texts, rewrite_graphs
from adamix_export.precision import calibration
from adamix_export.precision.calibration import CalibrationText, Statistics, collect_activation_grams
from adamix_export.precision.table import Setting, precision_setting
from tests.fixtures.hand_computed_decoder import NAMES, WIDTH, random_decoder, write_decoder_bundle

TEXTS = {"north": [[4, 5, 6], [7, 2]], "south": [[9, 8, 4, 10]], "west": [[5, 5, 7]]}
DECODER = random_decoder()


class Texts:
    """Calibration texts by checkpoint, and what was asked for."""

    def __init__(self, texts: dict[str, list[list[int]]]) -> None:
        self.texts = texts
        self.asked: list[tuple[str, Path | None, int]] = []

    def __call__(self, checkpoint: SimpleNamespace, file: Path | None, count: int) -> list[CalibrationText]:
        self.asked.append((checkpoint.name, file, count))
        return [CalibrationText(ids=ids) for ids in self.texts.get(checkpoint.name, [])]


def bank(folder: Path, texts: Texts, names: Sequence[str] = NAMES) -> BundleBuild:
    """A bank that has been traced."""
    write_decoder_bundle(folder, DECODER)
    checkpoints = [SimpleNamespace(name=name) for name in names]
    return BundleBuild(
        task=SimpleNamespace(calibration_texts=texts), shape="bank", checkpoints=checkpoints, folder=folder
    )


def rename(grams: Statistics, graph: ir.Graph) -> None:
    graph.name = "rewritten"


def test_a_rewrite_is_given_the_states_of_every_text_under_the_adapter_of_its_checkpoint(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By hand: the states before the head are the decoder's output with the identity as its head."""
    monkeypatch.setattr(calibration, "products", partial(calibration.products, smallest=8))
    given: list[Statistics] = []
    stages: list[str] = []
    setting = Setting(
        rewrite=lambda grams, graph: given.append(grams), calibrate=collect_activation_grams, bounds=Bounds()
    )
    rewrite_graphs(bank(tmp_path / "bank", Texts(TEXTS)), setting, Options(precision="int4"), stages.append)
    headless = replace(DECODER, weights={**DECODER.weights, "head": np.eye(WIDTH, dtype=np.float32)})
    rows = [(ids, name) for name, texts in TEXTS.items() for ids in texts]
    embedded = [DECODER.weights["embeddings"][ids] for ids, _ in rows]
    ends = [headless.logits(ids, name) for ids, name in rows]
    (grams,) = given
    assert grams.keys() == {"x", "adapted"}
    np.testing.assert_allclose(grams["x"], sum(states.T @ states for states in embedded), rtol=1e-4, atol=1e-4)
    np.testing.assert_allclose(grams["adapted"], sum(np.outer(end, end) for end in ends), rtol=1e-3, atol=1e-3)
    assert stages == ["calibrating", "rewriting in int4"]
    assert len(stages) == setting.stages


@pytest.mark.parametrize("count", [3, 7, CALIBRATION_TEXTS + 1])
def test_the_texts_are_shared_out_between_checkpoints_and_each_is_asked_for_one(count: int, tmp_path: Path) -> None:
    texts, file = Texts({}), tmp_path / "texts.csv"
    names = [f"run{index}" for index in range(count)]
    calibration_texts(bank(tmp_path / "bank", texts, names), Options(calibration=file))
    shares = {3: 16, 7: 6, CALIBRATION_TEXTS + 1: 1}
    assert texts.asked == [(name, file, shares[count]) for name in names]


def test_without_texts_a_warning_says_what_is_lost(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    assert calibration_texts(bank(tmp_path / "bank", Texts({})), Options(precision="int4")) == []
    assert "int4 without calibration texts loses more" in caplog.text
    assert "--calibration-data" in caplog.text


def test_both_graphs_of_an_encoder_decoder_are_rewritten(tmp_path: Path) -> None:
    build = bank(tmp_path / "bank", Texts({}))
    shutil.copy(build.folder / "model.onnx", build.folder / "encoder.onnx")
    rewrite_graphs(build, Setting(rewrite=rename, bounds=Bounds()), Options(precision="int8"), lambda stage: None)
    assert [ir.load(build.folder / name).graph.name for name in ("model.onnx", "encoder.onnx")] == ["rewritten"] * 2


def test_a_graph_that_has_its_precision_stays_and_the_precisions_warning_is_heard(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    build = bank(tmp_path / "bank", Texts(TEXTS))
    before = (build.folder / "model.onnx").read_bytes()
    stages: list[str] = []
    setting = Setting(rewrite=None, bounds=Bounds(), warning="not yet tried")
    rewrite_graphs(build, setting, Options(precision="fp16"), stages.append)
    assert (build.folder / "model.onnx").read_bytes() == before
    assert "fp16: not yet tried" in caplog.text
    assert stages == []


@pytest.mark.parametrize(
    ("precision", "objective"), [("int4", "sequence-to-sequence"), ("fp32", "generation"), ("fp16", "classification")]
)
def test_calibration_texts_that_nothing_uses_are_told(
    precision: str, objective: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    setting = replace(precision_setting(precision, objective), rewrite=None)
    options = Options(precision=precision, calibration=tmp_path / "texts.csv")
    rewrite_graphs(bank(tmp_path / "bank", Texts(TEXTS)), setting, options, lambda stage: None)
    assert "--calibration-data is not used: only int8 of classifiers, and w8a8, int4 and int4-fp16" in caplog.text
    assert "without calibration texts" not in caplog.text
