from adamix_train.base_model.positions import max_positions
from transformers import AutoConfig


def test_roberta_has_positions_that_no_token_takes() -> None:
    assert max_positions(AutoConfig.for_model("roberta", max_position_embeddings=514)) == 512
    assert max_positions(AutoConfig.for_model("bert", max_position_embeddings=512)) == 512
    assert max_positions(AutoConfig.for_model("t5")) > 1 << 20
