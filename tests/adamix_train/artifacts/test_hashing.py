from pathlib import Path

import pytest

from adamix_train.artifacts.hashing import file_sha256

# The examples of NIST for SHA-256 (FIPS 180-2, appendix B), and the hash of the empty message.
VECTORS = [
    (b"", "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"),
    (b"abc", "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"),
    (b"a" * 1_000_000, "cdc76e5c9914fb9281a1c7e284d73e67f1809a48a497200e046d39ccc7112cd0"),
]


@pytest.mark.parametrize(("content", "digest"), VECTORS, ids=["empty", "abc", "million"])
def test_the_published_hashes_come_out(tmp_path: Path, content: bytes, digest: str) -> None:
    file = tmp_path / "file"
    file.write_bytes(content)
    assert file_sha256(file) == digest


def test_line_ends_are_part_of_the_hash(tmp_path: Path) -> None:
    unix, windows = tmp_path / "unix", tmp_path / "windows"
    unix.write_bytes(b"a\n")
    windows.write_bytes(b"a\r\n")
    assert file_sha256(unix) != file_sha256(windows)
