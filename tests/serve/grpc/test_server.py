import asyncio
import contextlib
import hashlib
import shutil
import struct
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from serve.adapter_loading import AdapterLoading
from serve.api_keys import ApiKey, ApiKeys
from serve.classification.async_classifier import AsyncClassifier
from serve.classification.classifier import Classifier
from serve.errors import ServeError
from serve.generation.async_text_generator import AsyncTextGenerator
from serve.generation.generator import Generator
from serve.lookup import LookupEngine
from serve.lookup_room import BoundedLookup
from serve.readiness import Readiness
from serve.sampling_params import SamplingParams
from tests.fixtures.hand_computed_decoder import random_decoder, write_decoder_bundle
from tests.serve.conftest import Reference, write_adapter

grpc = pytest.importorskip("grpc")
from serve.grpc.messages import FIELDS, MESSAGES  # noqa: E402
from serve.grpc.server import SERVICE, GrpcServer  # noqa: E402
from serve.grpc.service import COUNTED, METHODS, STREAMS  # noqa: E402

Call = Callable[..., Awaitable[Any]]


@pytest.fixture(scope="module")
def generator(tmp_path_factory: pytest.TempPathFactory) -> Generator:
    folder = write_decoder_bundle(tmp_path_factory.mktemp("grpc") / "bundle", random_decoder())
    return Generator(folder, provider="cpu", threads=1)


def on_server(
    classifier: Classifier,
    use: Callable[[Call], Awaitable[None]],
    engine: Any = None,
    root: Path | None = None,
    **options: Any,
) -> None:
    """Run `use` with a function that calls a method by its name, of an engine or the classifier."""

    async def run() -> None:
        async with engine or AsyncClassifier(classifier) as started:
            loading = AdapterLoading(engine=started, root=root)
            server = GrpcServer(started, "127.0.0.1", 0, limit=64, payload_limit=100_000, loading=loading, **options)
            await server.start()
            async with grpc.aio.insecure_channel(f"127.0.0.1:{server.port}") as channel:

                def call(method: str, message: Any = None, metadata: Any = None) -> Any:
                    asked, answered = METHODS[method][0], METHODS[method][0].replace("Request", "Response")
                    stub = channel.unary_unary(
                        f"/{SERVICE}/{method}",
                        request_serializer=lambda one: one if isinstance(one, bytes) else one.SerializeToString(),
                        response_deserializer=MESSAGES[answered].FromString,
                    )
                    return stub(MESSAGES[asked]() if message is None else message, metadata=metadata)

                await use(call)
            await server.stop(0)

    asyncio.run(run())


def asked(model: str, **inputs: list[str]) -> Any:
    request = MESSAGES["ModelInferRequest"](model_name=model)
    for name, texts in inputs.items():
        tensor = request.inputs.add(name=name, datatype="BYTES", shape=[len(texts)])
        tensor.contents.bytes_contents.extend(text.encode() for text in texts)
    return request


def test_a_request_needs_a_key_in_its_metadata(classifier: Classifier, tmp_path: Path) -> None:
    keys = ApiKeys({"acme": ApiKey(name="acme", sha256=hashlib.sha256(b"one").hexdigest())})

    async def use(call: Call) -> None:
        with pytest.raises(grpc.aio.AioRpcError) as refused:
            await call("ModelInfer", asked("tone", text=["good"]))
        assert refused.value.code() == grpc.StatusCode.UNAUTHENTICATED
        known = (("authorization", "Bearer one"),)
        assert (await call("ModelInfer", asked("tone", text=["good"]), known)).model_name == "tone"
        assert (await call("ServerReady")).ready
        load = MESSAGES["RepositoryModelLoadRequest"](model_name="mood")
        with pytest.raises(grpc.aio.AioRpcError) as forbidden:
            await call("RepositoryModelLoad", load, known)
        assert forbidden.value.code() == grpc.StatusCode.PERMISSION_DENIED
        assert "not an administrator's" in (forbidden.value.details() or "")

    on_server(classifier, use, root=tmp_path, api_keys=keys)


def test_texts_go_in_and_scores_come_out(classifier: Classifier) -> None:
    async def use(call: Call) -> None:
        response = await call("ModelInfer", asked("intent", text=["the bill is late", "good"]))
        expected = classifier(["the bill is late", "good"], adapter="intent")
        outputs = {output.name: output for output in response.outputs}
        assert [bytes(one).decode() for one in outputs["label"].contents.bytes_contents] == [
            one.label for one in expected
        ]
        assert list(outputs["scores"].shape) == [2, 3]
        assert list(outputs["scores"].contents.fp32_contents) == pytest.approx(
            np.concatenate([one.scores for one in expected]).tolist()
        )
        assert response.model_version == expected[0].sha256[:12]

    on_server(classifier, use)


def test_bytes_that_are_no_message_are_refused(classifier: Classifier, caplog: pytest.LogCaptureFixture) -> None:
    async def use(call: Call) -> None:
        with pytest.raises(grpc.aio.AioRpcError) as refused:
            await call("ModelInfer", b"\xff\xff")
        assert refused.value.code() == grpc.StatusCode.INVALID_ARGUMENT
        assert "the bytes of the request are no ModelInferRequest" in (refused.value.details() or "")

    on_server(classifier, use)
    assert "Traceback" not in caplog.text


def field(number: int, content: bytes) -> bytes:
    """Return a field of the wire format whose content has a length (below 128)."""
    return bytes([number << 3 | 2, len(content)]) + content


def test_numbers_of_fields_are_those_of_the_protocol(classifier: Classifier) -> None:
    """A request as its bytes: model 1, id 3, parameters 4, inputs 5 (name 1, datatype 2, shape 3), outputs 6, raw 7."""
    element = struct.pack("<I", 4) + b"good"
    tensor = field(1, b"text") + field(2, b"BYTES") + field(3, bytes([1, 1]))
    parameter = field(1, b"raw_scores") + field(2, bytes([1 << 3, 1]))
    request = (
        field(1, b"tone") + field(3, b"7") + field(4, parameter) + field(5, tensor) + field(6, field(1, b"scores"))
    ) + field(7, element)

    async def use(call: Call) -> None:
        response = await call("ModelInfer", request)
        (logits,) = (one.logits for one in classifier("good", adapter="tone"))
        assert response.id == "7"
        assert struct.unpack("<2f", response.raw_output_contents[0]) == pytest.approx(logits.tolist())
        assert field(6, struct.pack("<2f", *logits)) in response.SerializeToString()
        assert field(1, b"scores") + field(2, b"FP32") + field(3, bytes([1, 2])) in response.SerializeToString()

    on_server(classifier, use)


def test_rows_of_the_bank_name_their_adapters(classifier: Classifier) -> None:
    async def use(call: Call) -> None:
        response = await call("ModelInfer", asked("adamix", text=["good", "bill"], adapter=["tone", "intent"]))
        labels = [bytes(one).decode() for one in response.outputs[0].contents.bytes_contents]
        assert labels == [one.label for one in classifier(["good", "bill"], adapter=["tone", "intent"])]

    on_server(classifier, use)


def test_a_parameter_names_the_adapter_of_all_rows(classifier: Classifier) -> None:
    async def use(call: Call) -> None:
        request = with_parameter(asked("adamix", text=["good", "bill"]), adapter={"string_param": "intent"})
        labels = [bytes(one).decode() for one in (await call("ModelInfer", request)).outputs[0].contents.bytes_contents]
        assert labels == [one.label for one in classifier(["good", "bill"], adapter="intent")]

    on_server(classifier, use)


def test_models_are_described_and_listed(classifier: Classifier) -> None:
    async def use(call: Call) -> None:
        assert (await call("ServerLive")).live
        assert (await call("ServerReady")).ready
        assert (await call("ModelReady", MESSAGES["ModelReadyRequest"](name="tone"))).ready
        assert (await call("ServerMetadata")).name == "adamix-serve"
        described = await call("ModelMetadata", MESSAGES["ModelMetadataRequest"](name="intent"))
        assert [(one.name, list(one.shape)) for one in described.outputs] == [
            ("label", [-1]),
            ("score", [-1]),
            ("scores", [-1, 3]),
            ("labels", [3]),
        ]
        listed = await call("RepositoryIndex")
        assert {one.name for one in listed.models} == {"adamix", *classifier.cards}

    on_server(classifier, use)


def with_parameter(request: Any, **values: Any) -> Any:
    for name, value in values.items():
        request.parameters[name].CopyFrom(MESSAGES["InferParameter"](**value))
    return request


def with_output(model: str, name: str, **value: Any) -> Any:
    """Return a request for one output, which has a parameter without a name if there is a value."""
    request = asked(model, text=["a"])
    output = request.outputs.add(name=name)
    if value:
        output.parameters[""].CopyFrom(MESSAGES["InferParameter"](**value))
    return request


def raw(*raw_contents: bytes, contents: bool = True) -> Any:
    request = asked("tone", text=["good"])
    request.raw_input_contents.extend(raw_contents)
    if not contents:
        request.inputs[0].ClearField("contents")
    return request


def not_utf8() -> Any:
    request = asked("tone", text=["a"])
    request.inputs[0].contents.bytes_contents[0] = b"\xff"
    return request


@pytest.mark.parametrize(
    ("request_", "code", "message"),
    [
        (asked("mood", text=["a"]), "NOT_FOUND", "there is no model 'mood'"),
        (asked("tone"), "INVALID_ARGUMENT", "there is no text"),
        (asked("tone", text=["\u200b\0"]), "INVALID_ARGUMENT", "the text is empty"),
        (asked("tone", txt=["a"]), "INVALID_ARGUMENT", "has no input 'txt'"),
        (asked("tone", text=["a"] * 65), "INVALID_ARGUMENT", "at most 64 go into one request"),
        (not_utf8(), "INVALID_ARGUMENT", "not UTF-8"),
        (raw(b"\x05\x00\x00\x00good", contents=False), "INVALID_ARGUMENT", "input 'text' is cut short"),
        (raw(b"\x04\x00\x00\x00good"), "INVALID_ARGUMENT", "send texts in raw_input_contents alone"),
        (asked("\u2603" * 3000, text=["a"]), "NOT_FOUND", "there is no model"),
        (raw(b"", b""), "INVALID_ARGUMENT", "raw_input_contents has 2 entries for 1 inputs"),
        (with_parameter(asked("tone", text=["a"]), timeout={"int64_param": 3}), "INVALID_ARGUMENT", "'timeout'"),
        (
            with_parameter(asked("tone", text=["a"]), truncate={}),
            "INVALID_ARGUMENT",
            "parameter 'truncate' has no value",
        ),
        (
            with_parameter(asked("tone", text=["a"]), adapter={"string_param": "intent"}),
            "INVALID_ARGUMENT",
            "parameter adapter is 'intent', and the model is 'tone'",
        ),
        (with_parameter(asked("adamix", text=["a"]), adapter={"string_param": "mood"}), "NOT_FOUND", "'mood'"),
        (with_parameter(asked("tone", text=["a"]), **{"": {}}), "INVALID_ARGUMENT", "parameter '' has no value"),
        (asked("tone", text=["a"], **{"": ["b"]}), "INVALID_ARGUMENT", "model 'tone' has no input ''"),
        (with_output("tone", ""), "INVALID_ARGUMENT", "model 'tone' has no output ''"),
        (with_output("tone", "", bool_param=True), "INVALID_ARGUMENT", "output '' has parameters: there are none"),
        (
            with_parameter(asked("tone", text=["a"]), truncate={"string_param": "yes"}),
            "INVALID_ARGUMENT",
            "must be of type bool",
        ),
        (asked("tone", text=["x" * 200_000]), "RESOURCE_EXHAUSTED", "larger than max"),
    ],
)
def test_a_request_that_is_wrong_is_told_why(classifier: Classifier, request_: Any, code: str, message: str) -> None:
    async def use(call: Call) -> None:
        with pytest.raises(grpc.aio.AioRpcError) as error:
            await call("ModelInfer", request_)
        assert error.value.code().name == code
        assert message in error.value.details()
        assert (await call("ServerLive")).live

    on_server(classifier, use)


def test_a_bug_tells_nothing_of_itself(classifier: Classifier, monkeypatch: pytest.MonkeyPatch) -> None:
    async def fails(self: object, request: object) -> None:
        raise RuntimeError("secret")

    monkeypatch.setattr(AsyncClassifier, "classify", fails)

    async def use(call: Call) -> None:
        with pytest.raises(grpc.aio.AioRpcError) as error:
            await call("ModelInfer", asked("tone", text=["a"]))
        assert error.value.code().name == "INTERNAL"
        assert "secret" not in error.value.details()

    on_server(classifier, use)


def test_a_server_that_stops_is_not_ready(classifier: Classifier) -> None:
    async def run() -> None:
        engine = AsyncClassifier(classifier)
        server = GrpcServer(engine, "127.0.0.1", 0, limit=64, payload_limit=1000)
        await engine.start()
        await engine.drain()
        assert not (await server.service.ready(None)).ready
        with pytest.raises(ServeError, match="the server is stopping"):
            await server.service.infer(asked("tone", text=["a"]))

    asyncio.run(run())


def test_an_address_that_is_taken_is_refused(classifier: Classifier) -> None:
    async def use(call: Call) -> None:
        first = GrpcServer(AsyncClassifier(classifier), "127.0.0.1", 0, limit=1, payload_limit=1000)
        await first.start()
        second = GrpcServer(AsyncClassifier(classifier), "127.0.0.1", first.port, limit=1, payload_limit=1000)
        with pytest.raises(ServeError, match=rf"cannot listen on 127\.0\.0\.1:{first.port}: give another --grpc-port"):
            await second.start()
        await first.stop(0)

    on_server(classifier, use)


async def refusal(answer: Awaitable[Any]) -> tuple[str, str]:
    """Return the status and the message of a method that fails."""
    with pytest.raises(grpc.aio.AioRpcError) as error:
        await answer
    return error.value.code().name, error.value.details()


@pytest.fixture
def root(tmp_path: Path, reference: Reference) -> Path:
    """A folder with an adapter that is called match, and another beside it."""
    write_adapter(tmp_path / "adapters" / "match", reference, "match", pairs=False)
    write_adapter(tmp_path / "grade", reference, "grade")
    return tmp_path / "adapters"


def load(*names: str) -> Any:
    """Return a request to load a model, with Triton's repository before its name if there are two."""
    return MESSAGES["RepositoryModelLoadRequest"](**dict(zip(("model_name", "repository_name"), names, strict=False)))


def unload(name: str) -> Any:
    request = MESSAGES["RepositoryModelUnloadRequest"](model_name=name)
    request.parameters["unload_dependents"].bool_param = False
    return request


def test_adapters_come_and_go_while_the_server_runs(classifier: Classifier, root: Path) -> None:
    async def use(call: Call) -> None:
        assert not (await call("ModelReady", MESSAGES["ModelReadyRequest"](name="match"))).ready
        assert (await call("RepositoryModelLoad", load("match"))).isLoaded
        answer = await call("ModelInfer", asked("match", text=["good"]))
        assert answer.model_version == classifier.cards["match"].sha256[:12]
        assert "match" in {one.name for one in (await call("RepositoryIndex")).models}
        assert (await call("RepositoryModelUnload", unload("match"))).isUnloaded
        assert (await refusal(call("RepositoryModelUnload", unload("match"))))[0] == "NOT_FOUND"
        of_kserve = MESSAGES["RepositoryModelLoadRequest"].FromString(field(1, b"match"))
        loaded = await call("RepositoryModelLoad", of_kserve)
        assert loaded.SerializeToString() == field(1, b"match") + bytes([2 << 3, 1])
        assert "match" in classifier.cards

    on_server(classifier, use, root=root)


def test_an_adapter_is_loaded_when_a_request_names_it_first(classifier: Classifier, root: Path) -> None:
    @contextlib.asynccontextmanager
    async def on_demand() -> AsyncIterator[LookupEngine]:
        async with AsyncClassifier(classifier) as engine:
            loading = AdapterLoading(engine=engine, root=root)
            yield LookupEngine(engine, BoundedLookup(loading, most=2))

    async def use(call: Call) -> None:
        assert (await refusal(call("ModelInfer", asked("nowhere", text=["good"]))))[0] == "NOT_FOUND"
        shutil.copytree(root / "match", root / "alias")
        code, message = await refusal(call("ModelInfer", asked("alias", text=["good"])))
        assert (code, "is called match, not alias" in message) == ("FAILED_PRECONDITION", True)
        answer = await call("ModelInfer", asked("match", text=["good"]))
        assert answer.model_version == classifier.cards["match"].sha256[:12]
        assert (await call("ModelReady", MESSAGES["ModelReadyRequest"](name="match"))).ready

    on_server(classifier, use, engine=on_demand())


def test_the_rules_of_loading_are_those_of_http(classifier: Classifier, root: Path) -> None:
    with_config = load("match")
    with_config.parameters["config"].string_param = "{}"

    async def use(call: Call) -> None:
        for request, message in (
            (load("../grade"), "'../grade' is not below the folder that adapters are loaded from (--adapter-dir)"),
            (load("nowhere"), "there is no adapter folder 'nowhere' below --adapter-dir"),
            (load(), "there is no model_name: send the adapter's name"),
            (load("match", "other"), "there is no repository 'other': leave out repository_name"),
            (with_config, "unknown parameter 'config': an adapter's folder says all there is to it"),
        ):
            assert await refusal(call("RepositoryModelLoad", request)) == ("INVALID_ARGUMENT", message)
        index = MESSAGES["RepositoryIndexRequest"](repository_name="other")
        assert (await refusal(call("RepositoryIndex", index)))[0] == "INVALID_ARGUMENT"

    on_server(classifier, use, root=root)


def test_a_server_without_a_folder_loads_nothing(classifier: Classifier) -> None:
    async def use(call: Call) -> None:
        for method, request in (("RepositoryModelLoad", load("tone")), ("RepositoryModelUnload", unload("tone"))):
            code, message = await refusal(call(method, request))
            assert (code, "--adapter-dir FOLDER" in message) == ("PERMISSION_DENIED", True)
        assert (await call("ModelReady", MESSAGES["ModelReadyRequest"](name="tone"))).ready

    on_server(classifier, use)


def test_the_index_lists_the_ready_models_where_that_is_asked_for(classifier: Classifier) -> None:
    engine = AsyncClassifier(classifier)

    async def use(call: Call) -> None:
        ready = MESSAGES["RepositoryIndexRequest"](ready=True)
        assert {one.name for one in (await call("RepositoryIndex", ready)).models} == {"adamix", *classifier.cards}
        await engine.drain()
        assert not (await call("RepositoryIndex", ready)).models
        assert {one.state for one in (await call("RepositoryIndex")).models} == {"UNAVAILABLE"}

    on_server(classifier, use, engine)


def test_requests_are_counted_by_method_and_status(classifier: Classifier) -> None:
    counted: list[tuple[str, str]] = []

    def count(method: str, status: str, seconds: float) -> None:
        assert 0 < seconds < 30
        counted.append((method, status))

    async def use(call: Call) -> None:
        await call("ServerLive")
        await call("ModelInfer", asked("tone", text=["good"]))
        await refusal(call("ModelInfer", asked("mood", text=["good"])))
        await call("RepositoryIndex")
        assert counted == [("ModelInfer", "OK"), ("ModelInfer", "NOT_FOUND"), ("RepositoryIndex", "OK")]

    on_server(classifier, use, on_request=count)
    assert set(COUNTED) <= METHODS.keys() | STREAMS.keys()


def prompt(text: str, **parameters: Any) -> Any:
    return with_parameter(asked("north", text_input=[text]), **parameters)


FEW: dict[str, Any] = {"max_tokens": {"int64_param": 7}, "ignore_eos": {"bool_param": True}}


def test_a_generators_texts_are_those_of_the_engine(classifier: Classifier, generator: Generator) -> None:
    sampling = SamplingParams(max_new_tokens=7, ignore_eos=True)
    (expected,) = generator("good bad", adapter="north", sampling=sampling)

    async def use(call: Call) -> None:
        response = await call("ModelInfer", prompt("good bad", **FEW))
        outputs = {one.name: bytes(one.contents.bytes_contents[0]).decode() for one in response.outputs}
        assert (outputs["text_output"].strip(), outputs["finish_reason"]) == (expected.text, "length")
        assert response.model_version == expected.sha256[:12]
        wrong = prompt("good", max_new_tokens={"int64_param": 7})
        assert await refusal(call("ModelInfer", wrong)) == (
            "INVALID_ARGUMENT",
            "unknown parameter 'max_new_tokens': it is called max_tokens here",
        )
        below = prompt("good", max_tokens={"int64_param": -1})
        assert (await refusal(call("ModelInfer", below)))[1] == "max_tokens is -1: it must be at least 0"
        beside = asked("north", text_input=["good bad"])
        beside.inputs.add(name="max_tokens", datatype="INT32", shape=[1]).contents.int_contents.append(7)
        beside.inputs.add(name="ignore_eos", datatype="BOOL", shape=[1]).contents.bool_contents.append(True)
        assert (await call("ModelInfer", beside)).outputs[0] == response.outputs[0]
        beside.inputs[1].contents.int64_contents.append(7)
        assert (await refusal(call("ModelInfer", beside)))[1] == (
            "input 'max_tokens' has int64_contents: send INT32 in int_contents alone"
        )
        several = prompt("good", stop_token_ids={"string_param": "[4, 5, 6, 7, 8, 9, 10]"}, **FEW)
        assert (await call("ModelInfer", several)).outputs

    on_server(classifier, use, AsyncTextGenerator(generator))


def test_a_stream_answers_its_requests_one_after_the_other(generator: Generator) -> None:
    sampling = SamplingParams(max_new_tokens=7, ignore_eos=True)
    (expected,) = generator("good bad", adapter="north", sampling=sampling)
    requests = [prompt("good bad", **FEW), asked("east", text_input=["a"]), prompt("good bad", **FEW)]
    requests[2].outputs.add(name="text_output")
    for number, request in enumerate(requests):
        request.id = f"request {number}"
    counted: list[str] = []

    async def run() -> list[Any]:
        async with AsyncTextGenerator(generator) as engine:
            count: Any = lambda method, status, seconds: counted.append(status)  # noqa: E731
            server = GrpcServer(engine, "127.0.0.1", 0, limit=64, payload_limit=1000, on_request=count)
            await server.start()
            async with grpc.aio.insecure_channel(f"127.0.0.1:{server.port}") as channel:
                stream = channel.stream_stream(
                    f"/{SERVICE}/ModelStreamInfer",
                    request_serializer=lambda one: one.SerializeToString(),
                    response_deserializer=MESSAGES["ModelStreamInferResponse"].FromString,
                )
                found = [response async for response in stream(iter(requests))]
            await server.stop(0)
            return found

    found = asyncio.run(run())
    failed = [place for place, one in enumerate(found) if one.error_message]
    assert len(failed) == 1 and found[failed[0]].error_message.startswith("there is no model 'east'")
    assert found[failed[0]].infer_response.id == "request 1"
    assert {one.infer_response.id for one in found[: failed[0]]} == {"request 0"}
    for pieces, outputs in ((found[: failed[0]], 2), (found[failed[0] + 1 :], 1)):
        texts = [bytes(one.infer_response.outputs[0].contents.bytes_contents[0]).decode() for one in pieces]
        ends = [one.infer_response.parameters["triton_final_response"].bool_param for one in pieces]
        assert "".join(texts).strip() == expected.text and len(texts) > 3
        assert ends == [False] * (len(ends) - 1) + [True]
        assert len(pieces[-1].infer_response.outputs) == outputs
    assert counted == ["OK", "NOT_FOUND", "OK"]


def test_every_message_of_a_method_is_there() -> None:
    for request, _ in (*METHODS.values(), *STREAMS.values()):
        assert {request, request.replace("Request", "Response")} <= FIELDS.keys()


def test_health_is_that_of_http(classifier: Classifier) -> None:
    async def run() -> None:
        engine = AsyncClassifier(classifier)
        readiness = Readiness(engine, is_warm=False)
        server = GrpcServer(engine, "127.0.0.1", 0, limit=64, payload_limit=1000, readiness=readiness)
        tone = MESSAGES["ModelReadyRequest"](name="tone")
        states = []
        for is_warm, is_stopping in ((False, False), (True, False), (True, True)):
            readiness.is_warm, readiness.is_stopping = is_warm, is_stopping
            assert (await server.service.live(None)).live
            states.append(((await server.service.ready(None)).ready, (await server.service.model_ready(tone)).ready))
        assert states == [(False, False), (True, True), (False, False)]

    asyncio.run(run())
