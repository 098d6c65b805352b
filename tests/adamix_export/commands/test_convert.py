from collections.abc import Callable

import pytest

from adamix_export.converters.table import TARGETS


def test_help_lists_every_format(command: Callable[..., None], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        command("convert", "--help")
    text = capsys.readouterr().out
    assert all(target.description in text for target in TARGETS.values())
