from pathlib import Path
from types import SimpleNamespace

import torch

from adamix_train.base_model.load import load_base
from adamix_train.data.examples import Example
from adamix_train.evaluation.generate import generate, make_prompts
from adamix_train.training.objectives import OBJECTIVES
from tests.fixtures.example_files import encoding_of


def test_generated_text_does_not_depend_on_the_rest_of_its_batch(generative_bases: dict[str, Path]) -> None:
    model = load_base(generative_bases["llama"], OBJECTIVES["generation"].model).model.eval()
    encoding = encoding_of(generative_bases["llama"])
    encoding.tokenizer.pad_token = encoding.tokenizer.eos_token
    examples = [Example((text,), "x") for text in ("good", "the parcel was bad", "a shop")]
    prompts = make_prompts(examples, encoding, encoder_decoder=False)
    together = generate(model, prompts, encoding.tokenizer, batch_size=3, max_new_tokens=5)
    alone = [
        generate(model, [prompt], encoding.tokenizer, batch_size=1, max_new_tokens=5)[0] for prompt in reversed(prompts)
    ]
    assert together == alone[::-1]


def test_a_long_prompt_is_truncated_as_in_training(generative_bases: dict[str, Path]) -> None:
    encoding = encoding_of(generative_bases["llama"])
    seen: list[torch.Tensor] = []

    class Spy:
        config = SimpleNamespace(is_encoder_decoder=False)
        device = torch.device("cpu")

        def generate(self, input_ids: torch.Tensor, **_: object) -> torch.Tensor:
            seen.append(input_ids)
            return input_ids

    encoding.tokenizer.pad_token = encoding.tokenizer.eos_token
    prompts = make_prompts([Example(("parcel " * 20 + "good",), "x")], encoding, encoder_decoder=False)
    generate(Spy(), prompts, encoding.tokenizer, batch_size=1)
    words = encoding.tokenizer.convert_ids_to_tokens(seen[0][0].tolist())
    assert words == ["parcel"] * 10 + ["good", "=>"]
    assert encoding.truncated == [22]


def test_a_generated_text_keeps_its_spaces_as_it_is_served(generative_bases: dict[str, Path]) -> None:
    encoding = encoding_of(generative_bases["llama"])
    encoding.tokenizer.pad_token = "</s>"
    encoding.tokenizer.add_tokens(["."])
    encoding.tokenizer.clean_up_tokenization_spaces = True
    ids = encoding.tokenizer("the parcel .")["input_ids"]
    assert encoding.tokenizer.decode(ids) == "the parcel."

    class Echo:
        """Generates one text, for any prompt."""

        config, device = SimpleNamespace(is_encoder_decoder=False), torch.device("cpu")

        def generate(self, input_ids: torch.Tensor, **settings: object) -> torch.Tensor:
            return torch.cat([input_ids, torch.tensor([ids])], 1)

    prompts = make_prompts([Example(("good",), "")], encoding, encoder_decoder=False)
    (generated,) = generate(Echo(), prompts, encoding.tokenizer, batch_size=1)
    assert generated.text == encoding.tokenizer.backend_tokenizer.decode(ids) == "the parcel ."
