import json
from pathlib import Path

from serve.bundle.config import eos_token_ids
from serve.bundle.reader import Bundle
from serve.bundle.tokenizer_config import chat_templates, readable_config, special_tokens


def configured(bundle: Bundle, **config: object) -> Bundle:
    (bundle.folder / "tokenizer_config.json").write_text(json.dumps(config))
    return bundle


def test_a_base_without_a_configuration_has_no_template_and_no_special_tokens(bundle: Bundle) -> None:
    assert (chat_templates(bundle), special_tokens(bundle)) == ({}, {})


def test_templates_have_names_where_there_are_several(bundle: Bundle) -> None:
    assert chat_templates(configured(bundle, chat_template="{{ messages }}")) == {"default": "{{ messages }}"}
    several = [{"name": "default", "template": "a"}, {"name": "tool_use", "template": "b"}]
    assert chat_templates(configured(bundle, chat_template=several)) == {"default": "a", "tool_use": "b"}
    assert chat_templates(configured(bundle, chat_template={"default": "a", "tool_use": "b"})).keys() == {
        "default",
        "tool_use",
    }


def test_special_tokens_are_texts_however_they_are_written(bundle: Bundle) -> None:
    config = {"bos_token": "<s>", "eos_token": {"content": "</s>", "lstrip": False}, "pad_token": None}
    assert special_tokens(configured(bundle, **config, add_bos_token=True)) == {"bos_token": "<s>", "eos_token": "</s>"}


def test_the_configuration_is_readable_without_knowing_how_special_tokens_are_written(bundle: Bundle) -> None:
    config = {"eos_token": {"content": "</s>", "lstrip": False}, "model_max_length": 64}
    assert readable_config(configured(bundle, **config)) == {"eos_token": "</s>", "model_max_length": 64}


def test_the_end_tokens_are_those_that_the_base_generates_with(bundle: Bundle) -> None:
    folder: Path = bundle.folder
    (folder / "config.json").write_text('{"eos_token_id": 0}')
    assert eos_token_ids(bundle) == [0]
    (folder / "generation_config.json").write_text('{"eos_token_id": [2, 5]}')
    assert eos_token_ids(bundle) == [2, 5]
    (folder / "generation_config.json").write_text("{}")
    assert eos_token_ids(bundle) == [0]
