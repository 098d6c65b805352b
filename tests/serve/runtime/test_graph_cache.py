import logging
import subprocess
import sys
from pathlib import Path

import numpy as np
import onnxruntime as ort
import pytest

from serve.classification.classifier import Classifier
from serve.runtime import graph_cache
from serve.runtime.graph_cache import CHECKSUMS, GRAPH, WEIGHTS, cache_key, default_cache

TEXTS = ["good", "the bill is late", "very very bad"]


def logits(folder: Path, cache: Path | None) -> np.ndarray:
    """The logits of a bundle."""
    engine = Classifier(folder, provider="cpu", cache=cache)
    return np.stack([answer.logits for answer in engine(TEXTS, adapter="tone")])


@pytest.fixture
def small_weights(monkeypatch: pytest.MonkeyPatch) -> None:
    """The tiny model's weights lie outside of the graph as well."""
    monkeypatch.setitem(
        graph_cache.SAVE_SETTINGS, "session.optimized_model_external_initializers_min_size_in_bytes", "16"
    )


@pytest.mark.usefixtures("small_weights")
def test_a_cached_graph_answers_as_the_model_does(bundle_folder: Path, tmp_path: Path) -> None:
    expected = logits(bundle_folder, None)
    first = logits(bundle_folder, tmp_path / "cache")
    [entry] = (tmp_path / "cache").iterdir()
    assert sorted(file.name for file in entry.iterdir()) == sorted([CHECKSUMS, GRAPH, WEIGHTS])
    assert (entry / WEIGHTS).stat().st_size
    times = {file: file.stat().st_mtime_ns for file in entry.iterdir()}
    again = logits(bundle_folder, tmp_path / "cache")
    assert {file: file.stat().st_mtime_ns for file in entry.iterdir()} == times
    np.testing.assert_array_equal(first, expected)
    np.testing.assert_array_equal(again, expected)


@pytest.mark.usefixtures("small_weights")
@pytest.mark.parametrize("name", [GRAPH, WEIGHTS, CHECKSUMS])
@pytest.mark.parametrize("harm", ["flipped", "cut", "missing"])
def test_a_damaged_cache_is_made_again(
    name: str, harm: str, bundle_folder: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    expected = logits(bundle_folder, tmp_path / "cache")
    [entry] = (tmp_path / "cache").iterdir()
    content = bytearray((entry / name).read_bytes())
    content[len(content) // 2] ^= 1
    (entry / name).unlink()
    if harm != "missing":
        (entry / name).write_bytes(content if harm == "flipped" else content[: len(content) // 2])
    with caplog.at_level(logging.WARNING):
        np.testing.assert_array_equal(logits(bundle_folder, tmp_path / "cache"), expected)
    assert "is damaged: it is made again" in caplog.text
    assert graph_cache._is_intact(entry)


def test_without_a_cache_that_can_be_written_the_model_itself_is_opened(
    bundle_folder: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "cache").write_text("a file, not a folder")
    with caplog.at_level(logging.WARNING):
        np.testing.assert_array_equal(logits(bundle_folder, tmp_path / "cache"), logits(bundle_folder, None))
    assert "is not used" in caplog.text
    assert (tmp_path / "cache").read_text() == "a file, not a folder"


def test_a_name_depends_on_all_that_the_graph_depends_on(monkeypatch: pytest.MonkeyPatch) -> None:
    names = {
        cache_key(["a", "b"], "CPU", []),
        cache_key(["a", "c"], "CPU", []),
        cache_key(["a", "b"], "CUDA", []),
        cache_key(["a", "b"], "CPU", ["Fusion"]),
    }
    monkeypatch.setattr(ort, "__version__", "0")
    names.add(cache_key(["a", "b"], "CPU", []))
    monkeypatch.setattr(graph_cache, "_cpu_model", lambda: "another")
    names.add(cache_key(["a", "b"], "CPU", []))
    assert len(names) == 6
    assert cache_key(["b", "a"], "CPU", []) in names


def test_processes_that_write_at_once_leave_one_whole_graph(bundle_folder: Path, tmp_path: Path) -> None:
    program = "import sys; from serve.classification.classifier import Classifier; from pathlib import Path\n"
    program += "Classifier(Path(sys.argv[1]), provider='cpu', cache=Path(sys.argv[2]))"
    command = [sys.executable, "-c", program, str(bundle_folder), str(tmp_path / "cache")]
    running = [subprocess.Popen(command, stderr=subprocess.PIPE, text=True) for _ in range(4)]
    for process in running:
        _, errors = process.communicate(timeout=120)
        assert process.returncode == 0, errors
    [entry] = (tmp_path / "cache").iterdir()
    assert graph_cache._is_intact(entry)


def test_graphs_have_a_folder_of_their_own_in_the_cache(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("ADAMIX_CACHE", str(tmp_path))
    assert default_cache() == tmp_path / "graphs"
