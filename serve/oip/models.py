"""The models of the Open Inference Protocol: every adapter, and all of them as one."""

from collections.abc import Sequence
from dataclasses import dataclass
from importlib.metadata import version
from typing import Any

from serve.engine import Engine, ModelInfo
from serve.errors import MAX_NAME, UnknownAdapter, shortened
from serve.oip.elements import BYTES
from serve.oip.outputs import Output, outputs_of

BANK = "adamix"
"""Name of the model whose rows name their own adapters; an adapter of that name hides it."""
EXTENSIONS = ["binary_tensor_data", "model_repository"]
PLATFORM = "onnxruntime_adamix"
VERSION_LENGTH = 12
TEXT, PAIR, ADAPTER = "text", "text_pair", "adapter"
"""Names of inputs."""


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

    def index(self) -> list[dict[str, str]]:
        """Return the entries of a list of models, one for each version; none of a member of a mixture."""
        versions = () if self.is_member else self.versions or ("",)
        return [{"name": self.name, "version": version, "state": "READY", "reason": ""} for version in versions]


ALL = Model(name=BANK, versions=(), inputs=(TEXT, PAIR, ADAPTER), outputs=outputs_of(None, regression=False))
"""The bank as a model."""


def server_metadata() -> dict[str, Any]:
    """Return the description of the server in the protocol's form."""
    return {"name": "adamix-serve", "version": version("adamix"), "extensions": EXTENSIONS}


def models_of(engine: Engine) -> dict[str, Model]:
    """Return the models by name; those that generate are none, since they have no labels."""
    return {BANK: ALL} | {info.name: _of_adapter(info) for info in engine.models() if info.labels}


def find_model(engine: Engine, name: str, version: str | None = None) -> Model:
    """Return a model.

    Raises:
        UnknownAdapter: There is none of that name, or its weights are another version.
    """
    info = engine.model(name)
    if info is not None and info.labels:
        model = _of_adapter(info)
    elif name == BANK:
        model = ALL
    else:
        listed = ", ".join(other for other, one in models_of(engine).items() if not one.is_member)
        raise UnknownAdapter(f"there is no model {shortened(name, MAX_NAME)!r}; there are {listed}")
    if version is not None and version not in model.versions:
        there = ", ".join(model.versions) or "no versions"
        wanted = shortened(version, MAX_NAME)
        raise UnknownAdapter(f"model {name!r} has no version {wanted!r}; there is {there}")
    return model


def version_of(sha256: str) -> str:
    """Return the version of an adapter's weights."""
    return sha256[:VERSION_LENGTH]


def _of_adapter(info: ModelInfo) -> Model:
    return Model(
        name=info.name,
        versions=[version_of(info.sha256)],
        inputs=(TEXT, PAIR) if info.pairs else (TEXT,),
        outputs=outputs_of(info.labels, regression=info.regression),
        labels=info.labels,
        is_member=bool(info.member_of),
    )
