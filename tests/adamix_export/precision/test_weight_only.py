from pathlib import Path

import pytest

from serve.generation.generator import Generator
from tests.adamix_export.conftest import Export

pytestmark = pytest.mark.slow

TEXTS = ["good", "the parcel was bad", "my shop is great it was a fine shop", "the " * 30]


def test_rows_of_a_writer_are_quantized_each_by_itself(runs: dict[str, Path], export: Export, tmp_path: Path) -> None:
    export("bank", runs["generation"], precision="int8")
    generator = Generator(tmp_path / "out", provider="cpu")
    together = generator(TEXTS[:3], max_new_tokens=6)
    assert [generator(text, max_new_tokens=6)[0].tokens for text in TEXTS[:3]] == [row.tokens for row in together]
