from pathlib import Path

import pytest

from adamix_train.errors import DataError
from tests.adamix_export.conftest import Export


def test_parity_data_with_strange_labels_are_refused(export: Export, houlsby: Path, noun_data: Path) -> None:
    with pytest.raises(DataError, match="has labels that houlsby does not know: a, my, the"):
        export("merged", houlsby, data=noun_data, fresh=True)
