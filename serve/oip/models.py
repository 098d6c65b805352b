"""The models of the Open Inference Protocol: every adapter, and all of them as one."""

from collections.abc import Sequence
from dataclasses import dataclass
from importlib.metadata import version
from typing import Any

from serve.engine import Capability, Engine, ModelInfo
from serve.errors import MAX_NAME, InputError, UnknownAdapter, shortened
from serve.lookup import look_up
from serve.oip.elements import BYTES
from serve.oip.outputs import TEXT_OUTPUTS, Output, outputs_of
from serve.oip.parameters import ADAPTER, KNOWN

BANK = "adamix"
"""Name of the model of all classifiers, whose rows name their own adapters; an adapter of that name hides it."""
EXTENSIONS = ["binary_tensor_data", "generate", "model_repository"]
PLATFORM = "onnxruntime_adamix"
VERSION_LENGTH = 12
TEXT, PAIR = "text", "text_pair"
"""Names of a classifier's inputs, beside `ADAPTER`."""
TEXT_INPUT = "text_input"
"""Name of a generator's input."""
READY, UNAVAILABLE = "READY", "UNAVAILABLE"
"""States of a model."""


@dataclass(frozen=True, kw_only=True)
class Model:
    """A model as clients see it."""

    name: str
    versions: Sequence[str]
    """The first digits of the sha256 of the adapter's weights; none of the bank."""
    inputs: Sequence[str]
    """Names of its inputs, all of BYTES with shape (rows,)."""
    outputs: dict[str, Output]
    labels: Sequence[str] = ()
    is_member: bool = False
    """It is a module of a mixture, which no list shows among the others."""
    generates: bool = False
    """It generates texts rather than classifying them."""
    parameters: Sequence[str] = ()
    """Names of parameters that may also come as inputs of one value each."""

    @property
    def is_bank(self) -> bool:
        """It is all classifiers, of which each row names one."""
        return self.name == BANK and not self.versions

    def metadata(self) -> dict[str, Any]:
        """Return the description in the protocol's form."""
        return {
            "name": self.name,
            "versions": list(self.versions),
            "platform": PLATFORM,
            "inputs": [{"name": name, "datatype": BYTES, "shape": [-1]} for name in self.inputs],
            "outputs": [
                {"name": name, "datatype": output.datatype, "shape": output.shape(len(self.labels))}
                for name, output in self.outputs.items()
            ],
        }


ALL = Model(name=BANK, versions=(), inputs=(TEXT, PAIR, ADAPTER), outputs=outputs_of(None, regression=False))
"""The bank as a model."""


def server_metadata() -> dict[str, Any]:
    """Return the description of the server in the protocol's form."""
    return {"name": "adamix-serve", "version": version("adamix"), "extensions": EXTENSIONS}


def models_of(engine: Engine) -> dict[str, Model]:
    """Return the models by name."""
    bank = {BANK: ALL} if Capability.CLASSIFY in engine.capabilities else {}
    return bank | {info.name: _of_adapter(info) for info in engine.models()}


def model_index(engine: Engine, *, obstacle: str, ready: bool = False) -> list[dict[str, str]]:
    """Return the list of models, once for each version, without members of mixtures.

    Args:
        engine: The engine that has the models.
        obstacle: Reason why they should be sent no requests; empty if there is none.
        ready: List only models that should be sent requests.
    """
    state = UNAVAILABLE if obstacle else READY
    return [
        {"name": model.name, "version": version, "state": state, "reason": obstacle}
        for model in models_of(engine).values()
        if not (model.is_member or (ready and obstacle))
        for version in model.versions or ("",)
    ]


async def find_model(engine: Engine, name: str, version: str | None = None) -> Model:
    """Return a model, which is loaded where the engine does so on first use.

    Raises:
        UnknownAdapter: There is none of that name, or its weights are another version.
        AdapterFailed: It is there and cannot be loaded.
    """
    is_bank = name == BANK and Capability.CLASSIFY in engine.capabilities
    if not is_bank:
        await look_up(engine, name)
    info = engine.model(name)
    if info is not None:
        model = _of_adapter(info)
    elif is_bank:
        model = ALL
    else:
        listed = ", ".join(other for other, one in models_of(engine).items() if not one.is_member)
        raise UnknownAdapter(f"there is no model {shortened(name, MAX_NAME)!r}; there are {listed}")
    if version is not None and version not in model.versions:
        there = ", ".join(model.versions) or "no versions"
        wanted = shortened(version, MAX_NAME)
        raise UnknownAdapter(f"model {name!r} has no version {wanted!r}; there is {there}")
    return model


def check_adapter(model: Model, adapter: str | None) -> None:
    """Raise an InputError if a parameter names another adapter than the model, which is one."""
    if adapter is not None and adapter != model.name:
        wanted = shortened(adapter, MAX_NAME)
        other = f"ask /v2/models/{wanted}" + ("" if model.generates else f" or {BANK}")
        raise InputError(f"parameter {ADAPTER} is {wanted!r}, and the model is {model.name!r}: {other}", ADAPTER)


def check_version(model: Model, sha256: str, version: str | None) -> str:
    """Return the version of the weights that answered; empty for the bank.

    Raises:
        UnknownAdapter: It is not `version`, since the weights were replaced meanwhile.
    """
    answered = version_of(sha256) if model.versions else ""
    if version is not None and version != answered:
        raise UnknownAdapter(f"model {model.name!r} has no version {version!r} any more; there is {answered}")
    return answered


def version_of(sha256: str) -> str:
    """Return the version of an adapter's weights."""
    return sha256[:VERSION_LENGTH]


def _of_adapter(info: ModelInfo) -> Model:
    versions, is_member = [version_of(info.sha256)], bool(info.member_of)
    if not info.labels:
        return Model(
            name=info.name,
            versions=versions,
            inputs=(TEXT_INPUT,),
            outputs=TEXT_OUTPUTS,
            is_member=is_member,
            generates=True,
            parameters=KNOWN,
        )
    return Model(
        name=info.name,
        versions=versions,
        inputs=(TEXT, PAIR) if info.pairs else (TEXT,),
        outputs=outputs_of(info.labels, regression=info.regression),
        labels=info.labels,
        is_member=is_member,
    )
