import json
from dataclasses import replace

import pytest

from serve.bundle.config import context_length, eos_token_ids, hidden_width, vocab_size
from serve.bundle.reader import Bundle


@pytest.mark.parametrize(
    ("config", "length", "ends", "size"),
    [
        ({"max_position_embeddings": 512, "eos_token_id": 2, "vocab_size": 99}, 512, [2], 99),
        ({"n_positions": 64, "eos_token_id": [1, 2]}, 64, [1, 2], None),
        ({"eos_token_id": None}, None, [], None),
    ],
)
def test_facts_are_read_as_families_name_them(
    config: dict[str, object], length: int | None, ends: list[int], size: int | None, bundle: Bundle
) -> None:
    (bundle.folder / "config.json").write_text(json.dumps(config))
    assert (context_length(bundle), eos_token_ids(bundle), vocab_size(bundle)) == (length, ends, size)


def test_a_bundle_without_a_configuration_has_no_facts(bundle: Bundle) -> None:
    bare = replace(bundle, folder=bundle.folder / "adapters")
    assert (context_length(bare), eos_token_ids(bare), vocab_size(bare)) == (None, [], None)


@pytest.mark.parametrize(
    ("config", "width"),
    [({"hidden_size": 384}, 384), ({"n_embd": 768}, 768), ({"dim": 8, "d_model": 16}, 16), ({}, None)],
)
def test_the_width_is_read_as_families_name_it(config: dict[str, object], width: int | None, bundle: Bundle) -> None:
    (bundle.folder / "config.json").write_text(json.dumps(config))
    assert hidden_width(bundle) == width
