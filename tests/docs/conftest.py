"""Starting points of the pages: tiny bases, data, checkpoints with random weights, and bundles of them."""

from pathlib import Path

import pytest
from transformers import PreTrainedTokenizerFast

from tests.adamix_train.conftest import NEGATIVE, POSITIVE, make_writer
from tests.fixtures.random_checkpoints import make_encoder, mixture
from tests.fixtures.shared_folders import session_folder
from tests.fixtures.traced_graphs import traced_once

WIDE = {"hidden_size": 64, "intermediate_size": 128}
"""Sizes of the encoder, whose products are large enough to be quantized."""
TOPICS = {"the": "billing", "my": "delivery", "a": "other"}


@pytest.fixture(scope="session")
def graphs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of the graphs that exports have traced."""
    return session_folder(tmp_path_factory) / "graphs"


@pytest.fixture(scope="session")
def workspace(graphs: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with models, data, runs, bundles and adapters under the names that the pages use."""
    from adamix_export.cli import main as adamix_export

    place = tmp_path_factory.mktemp("workspace")
    encoder = make_encoder(
        _new(place / "models/my-encoder"), "bert", num_hidden_layers=1, max_position_embeddings=256, **WIDE
    )
    tokenizer = PreTrainedTokenizerFast.from_pretrained(encoder)
    tokenizer.model_max_length = 256
    tokenizer.save_pretrained(encoder)
    decoder = make_writer(_new(place / "models/my-decoder"), "llama", num_hidden_layers=1)
    for name in ("train", "test"):
        _write_messages(_new(place / "data") / f"{name}.csv")
    test = str(place / "data/test.csv")
    common = {"text_column": "message", "max_length": 64, "test_file": test}
    mixture(place / "runs/tone", encoder, label_column="tone", kind="houlsby", **common)
    mixture(place / "runs/topic", encoder, labels=tuple(TOPICS.values()), label_column="topic", kind="lora", **common)
    mixture(place / "runs/e2e", decoder, task="generation", kind="lora", max_new_tokens=8)
    both = [str(place / "runs/topic"), str(place / "runs/tone")]
    with traced_once(graphs):
        adamix_export([*both, str(place / "bundles/both"), "--slots", "1"])
        adamix_export([str(place / "runs/tone"), str(place / "bundles/sure"), "--keep-modules"])
        adamix_export([f"mood={place / 'runs/tone'}", str(place / "adapters/mood"), "--shape", "adapter"])
        adamix_export([str(place / "runs/e2e"), str(place / "bundles/e2e"), "--shape", "bank"])
    return place


def _new(folder: Path) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def _write_messages(file: Path) -> None:
    """Write 48 messages with their tone and their topic, each told by one word."""
    lines = ["message,tone,topic"]
    for noun in ("parcel", "shop"):
        for start, topic in TOPICS.items():
            for tone, words in (("positive", POSITIVE), ("negative", NEGATIVE)):
                lines += [f"{start} {noun} was {word},{tone},{topic}" for word in words]
    file.write_text("\n".join(lines) + "\n")
