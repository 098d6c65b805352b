"""optimum, in its own environment, opens a merged classifier as it is: the bundle is a model folder."""

import json
from pathlib import Path

import numpy as np
import pytest

from adamix_export.checkpoint.checkpoint import open_source
from adamix_export.tasks.classification import logits
from tests.adamix_export.converters.peer import peer

LOGITS = Path(__file__).with_name("optimum_logits.py")
TEXTS = ["the parcel was lovely", "a shop was broken", "my parcel", "bad", "it is " + "great " * 40]


def classified(folder: Path, scratch: Path) -> dict[str, list]:
    (scratch / "texts.json").write_text(json.dumps(TEXTS))
    peer("optimum").run(str(LOGITS), folder, scratch / "texts.json", scratch / "out.json")
    return json.loads((scratch / "out.json").read_text())


@pytest.mark.parametrize("kind", ["lora", "houlsby"])
def test_optimum_classifies_as_pytorch_does(kind: str, make, request: pytest.FixtureRequest, tmp_path: Path) -> None:
    checkpoint = request.getfixturevalue(kind)
    source = open_source(str(checkpoint))
    found = classified(make("merged", str(checkpoint)), tmp_path)
    expected = logits(source, [(text,) for text in TEXTS])
    np.testing.assert_allclose(found["logits"], expected, atol=1e-5)
    assert found["labels"] == source.card.labels
    assert found["chosen"] == [source.card.labels[index] for index in expected.argmax(-1)]
