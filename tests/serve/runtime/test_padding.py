from serve.runtime.padding import mask_of, pad


def test_rows_are_padded_on_the_right() -> None:
    assert pad([[1], [1, 2, 3]], 7).tolist() == [[1, 7, 7], [1, 2, 3]]


def test_a_mask_is_one_for_tokens_and_zero_for_padding() -> None:
    assert mask_of([1, 3]).tolist() == [[1, 0, 0], [1, 1, 1]]
    assert mask_of([1, 3], 4).tolist() == [[1, 0, 0, 0], [1, 1, 1, 0]]
