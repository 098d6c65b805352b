import pytest

from serve.errors import InputError
from serve.requests import ClassificationRequest, GenerationRequest, adapter_names


def test_one_name_is_that_of_all_texts_and_a_list_has_one_for_each() -> None:
    assert adapter_names("tone", 2) == ["tone", "tone"]
    assert adapter_names(None, 2) == [None, None]
    assert adapter_names(["a", None], 2) == ["a", None]


def test_another_number_of_adapters_than_texts_is_refused() -> None:
    with pytest.raises(InputError, match="2 texts and 1 adapters"):
        ClassificationRequest(texts=["a", "b"], adapters=["tone"])
    with pytest.raises(InputError, match="1 texts and 2 adapters"):
        GenerationRequest(prompts=["a"], adapters=["one", "two"])


def test_an_overlap_of_no_windows_is_refused() -> None:
    for overlap in (0, 2):
        with pytest.raises(InputError, match=f"overlap is {overlap} without windows: set windows to true, or leave it"):
            ClassificationRequest(texts=["a"], adapters=["tone"], overlap=overlap)
    assert ClassificationRequest(texts=["a"], adapters=["tone"], windows=True, overlap=0).overlap == 0


def test_names_that_are_not_one_for_each_text_are_refused() -> None:
    assert adapter_names(["tone", None], 2) == ["tone", None]
    with pytest.raises(InputError, match="adapter names 1 adapters for 2 texts: give one name, or one for each"):
        adapter_names(["tone"], 2)
