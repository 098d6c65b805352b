import asyncio

from serve.engine import Engine
from serve.engine_wrapper import EngineWrapper
from serve.generated_text import GenerationResult, TextDelta
from serve.requests import GenerationRequest
from tests.fixtures.toy_engine import ToyEngine


def test_a_wrapper_has_all_that_engines_have() -> None:
    asked = {name for name in vars(Engine) if not name.startswith("_")} | set(Engine.__annotations__)
    wrapper = EngineWrapper(ToyEngine())
    assert {name for name in asked if not hasattr(wrapper, name)} == set()
    assert wrapper.capabilities == wrapper.engine.capabilities


def test_it_answers_as_the_engine_does_and_ends_its_stream() -> None:
    toy = ToyEngine()
    wrapper = EngineWrapper(toy)
    request = GenerationRequest(prompts=["abc"], adapters=["toy"])

    async def run() -> tuple[list[GenerationResult], str]:
        await wrapper.start()
        events = [event async for event in wrapper.stream(request)]
        return await wrapper.generate(request), "".join(one.text for one in events if isinstance(one, TextDelta))

    (result,), streamed = asyncio.run(run())
    assert result.text == streamed == "ABC"
    assert [model.name for model in wrapper.models()] == [model.name for model in toy.models()]
    assert wrapper.serves("toy") and not wrapper.serves("nobody")
    assert wrapper.adapter_places() == {}
