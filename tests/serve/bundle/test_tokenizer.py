from pathlib import Path

import pytest

from serve.bundle.tokenizer import read_tokenizer
from serve.errors import BundleError
from tests.serve.conftest import WORDS, write_tokenizer


def test_a_tokenizer_is_read(tmp_path: Path) -> None:
    write_tokenizer(tmp_path / "tokenizer.json")
    assert read_tokenizer(tmp_path / "tokenizer.json").get_vocab_size() == len(WORDS)


@pytest.mark.parametrize(
    "content", [b"", b"{}", b"\xff" * 1000, b"[" * 100_000, b'{"model": "' + b"x" * 10_000 + b'"}']
)
def test_what_is_no_tokenizer_is_one_line(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "tokenizer.json").write_bytes(content)
    with pytest.raises(BundleError, match=r"tokenizer\.json is no tokenizer: .+; export it again") as error:
        read_tokenizer(tmp_path / "tokenizer.json")
    assert len(str(error.value)) < 500
