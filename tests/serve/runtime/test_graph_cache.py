import logging
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import onnx
import onnxruntime as ort
import pytest

from serve.bundle.checked_json import file_sha256, read_checked_json, write_checked_json
from serve.classification.classifier import Classifier
from serve.errors import BundleError
from serve.runtime import cache_folder, graph_cache
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


def altered(entry: Path) -> None:
    """Put another graph into an entry, with right checksums: one that answers with other logits."""
    model = onnx.load(entry / GRAPH)
    for node in model.graph.node:
        if "logits" in node.output:
            node.output[:] = ["before"]
    two = onnx.numpy_helper.from_array(np.array(2, np.float32), "two")
    model.graph.initializer.append(two)
    model.graph.node.append(onnx.helper.make_node("Mul", ["before", "two"], ["logits"]))
    onnx.save(model, entry / GRAPH)
    content = read_checked_json(entry / CHECKSUMS)
    write_checked_json(entry / CHECKSUMS, {**content, GRAPH: file_sha256(entry / GRAPH)})


@pytest.fixture
def altered_cache(bundle_folder: Path, tmp_path: Path) -> Path:
    """A cache whose graph another user has replaced."""
    logits(bundle_folder, tmp_path / "cache")
    [entry] = (tmp_path / "cache").iterdir()
    altered(entry)
    return tmp_path / "cache"


def test_an_altered_graph_would_answer_otherwise(bundle_folder: Path, altered_cache: Path) -> None:
    """The harm itself: its hashes are right, and a smaller change would pass the canaries as well."""
    with pytest.raises(BundleError, match="does not give the logits"):
        logits(bundle_folder, altered_cache)


@pytest.mark.parametrize("mode", [0o770, 0o707])
def test_a_cache_that_others_can_write_is_not_read(
    mode: int, bundle_folder: Path, altered_cache: Path, caplog: pytest.LogCaptureFixture
) -> None:
    altered_cache.chmod(mode)
    np.testing.assert_array_equal(logits(bundle_folder, altered_cache), logits(bundle_folder, None))
    assert f"is not used: other users can change {altered_cache}: chmod go-w it" in caplog.text


def test_a_cache_of_another_user_is_not_read(
    bundle_folder: Path, altered_cache: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("os.geteuid", lambda: os.getuid() + 1)
    monkeypatch.setattr(cache_folder, "ROOT", -1)
    np.testing.assert_array_equal(logits(bundle_folder, altered_cache), logits(bundle_folder, None))
    assert f"{altered_cache} belongs to another user" in caplog.text


@pytest.mark.parametrize("name", [".", GRAPH, WEIGHTS, CHECKSUMS])
def test_an_entry_that_others_can_write_is_made_again(name: str, bundle_folder: Path, altered_cache: Path) -> None:
    [entry] = altered_cache.iterdir()
    (entry / name).chmod(0o777)
    np.testing.assert_array_equal(logits(bundle_folder, altered_cache), logits(bundle_folder, None))
    assert {file.stat().st_mode & 0o777 for file in (entry / GRAPH, entry / CHECKSUMS)} == {0o600}


def test_an_entry_under_the_name_of_another_is_made_again(bundle_folder: Path, tmp_path: Path) -> None:
    expected = logits(bundle_folder, tmp_path / "cache")
    [entry] = (tmp_path / "cache").iterdir()
    content = read_checked_json(entry / CHECKSUMS)
    altered(entry)
    write_checked_json(entry / CHECKSUMS, {**read_checked_json(entry / CHECKSUMS), "key": "0" * 64})
    np.testing.assert_array_equal(logits(bundle_folder, tmp_path / "cache"), expected)
    assert read_checked_json(entry / CHECKSUMS)["key"] == content["key"] == entry.name


def test_a_full_cache_loses_what_was_not_used_for_longest(
    bundle_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cache = tmp_path / "cache"
    logits(bundle_folder, cache)
    [entry] = cache.iterdir()
    for name in ("a" * 64, "notes"):
        shutil.copytree(entry, cache / name)
        os.utime(cache / name, (1, 1))
    logits(bundle_folder, cache)
    assert len(list(cache.iterdir())) == 3
    monkeypatch.setenv("ADAMIX_CACHE_SIZE", "0.000001")
    logits(bundle_folder, cache)
    assert sorted(cache.iterdir()) == sorted([entry, cache / "notes"])


def test_a_size_that_is_no_number_is_told(
    bundle_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("ADAMIX_CACHE_SIZE", "much")
    logits(bundle_folder, tmp_path / "cache")
    assert "is not used: ADAMIX_CACHE_SIZE is 'much', which is no number of GiB" in caplog.text


@pytest.mark.usefixtures("small_weights")
def test_a_process_hashes_an_entry_once_until_its_files_change(
    bundle_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cache = tmp_path / "cache"
    logits(bundle_folder, cache)
    [entry] = cache.iterdir()
    hashed: list[str] = []

    def sha256(file: Path) -> str:
        hashed.append(file.name)
        return file_sha256(file)

    monkeypatch.setattr(graph_cache, "file_sha256", sha256)
    expected = logits(bundle_folder, cache)
    np.testing.assert_array_equal(logits(bundle_folder, cache), expected)
    assert hashed == [GRAPH, WEIGHTS]
    os.utime(entry / WEIGHTS)
    np.testing.assert_array_equal(logits(bundle_folder, cache), expected)
    assert hashed == [GRAPH, WEIGHTS] * 2
