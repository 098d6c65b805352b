from pathlib import Path

import pytest

from adamix_train.artifacts.atomic_write import atomic_file, write_json


def test_a_write_that_fails_leaves_the_former_file(tmp_path: Path) -> None:
    file = tmp_path / "f.json"
    write_json(file, {"ä": 1})
    with pytest.raises(RuntimeError), atomic_file(file) as partial:
        partial.write_text("half")
        raise RuntimeError
    assert file.read_text("utf-8") == '{\n  "ä": 1\n}\n'
    assert [path.name for path in tmp_path.iterdir()] == ["f.json"]
