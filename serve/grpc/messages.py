"""Messages of the Open Inference Protocol over gRPC: its names, numbers and types, made into classes when imported."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from google.protobuf import descriptor_pb2, descriptor_pool, message_factory
from google.protobuf.message import DecodeError

from serve.errors import InputError, first_line

PACKAGE = "inference"
SCALARS = {"bool": "TYPE_BOOL", "string": "TYPE_STRING", "bytes": "TYPE_BYTES", "float": "TYPE_FLOAT"} | {
    name: f"TYPE_{name.upper()}" for name in ("int32", "int64", "uint32", "uint64", "double")
}
REPEATED, MAP = "repeated ", "map "
"""Beginnings of the types of fields with several values: by place, or by name."""
NAMED = {"name": (1, "string"), "version": (2, "string")}
LOAD = {
    "repository_name": (1, "string"),
    "model_name": (2, "string"),
    "parameters": (3, "map RepositoryParameter"),
}
"""Triton's fields; KServe's clients send the model's name as field 1, and read fields that Triton's responses lack."""
FIELDS: dict[str, Mapping[str, tuple[int, str]]] = {
    "ServerLiveRequest": {},
    "ServerLiveResponse": {"live": (1, "bool")},
    "ServerReadyRequest": {},
    "ServerReadyResponse": {"ready": (1, "bool")},
    "ModelReadyRequest": NAMED,
    "ModelReadyResponse": {"ready": (1, "bool")},
    "ServerMetadataRequest": {},
    "ServerMetadataResponse": {**NAMED, "extensions": (3, "repeated string")},
    "ModelMetadataRequest": NAMED,
    "TensorMetadata": {"name": (1, "string"), "datatype": (2, "string"), "shape": (3, "repeated int64")},
    "ModelMetadataResponse": {
        "name": (1, "string"),
        "versions": (2, "repeated string"),
        "platform": (3, "string"),
        "inputs": (4, "repeated TensorMetadata"),
        "outputs": (5, "repeated TensorMetadata"),
    },
    "InferParameter": {
        "bool_param": (1, "bool"),
        "int64_param": (2, "int64"),
        "string_param": (3, "string"),
        "double_param": (4, "double"),
        "uint64_param": (5, "uint64"),
    },
    "InferTensorContents": {
        "bool_contents": (1, "repeated bool"),
        "int_contents": (2, "repeated int32"),
        "int64_contents": (3, "repeated int64"),
        "uint_contents": (4, "repeated uint32"),
        "uint64_contents": (5, "repeated uint64"),
        "fp32_contents": (6, "repeated float"),
        "fp64_contents": (7, "repeated double"),
        "bytes_contents": (8, "repeated bytes"),
    },
    "InferTensor": {
        "name": (1, "string"),
        "datatype": (2, "string"),
        "shape": (3, "repeated int64"),
        "parameters": (4, "map InferParameter"),
        "contents": (5, "InferTensorContents"),
    },
    "RequestedOutput": {"name": (1, "string"), "parameters": (2, "map InferParameter")},
    "ModelInferRequest": {
        "model_name": (1, "string"),
        "model_version": (2, "string"),
        "id": (3, "string"),
        "parameters": (4, "map InferParameter"),
        "inputs": (5, "repeated InferTensor"),
        "outputs": (6, "repeated RequestedOutput"),
        "raw_input_contents": (7, "repeated bytes"),
    },
    "ModelInferResponse": {
        "model_name": (1, "string"),
        "model_version": (2, "string"),
        "id": (3, "string"),
        "parameters": (4, "map InferParameter"),
        "outputs": (5, "repeated InferTensor"),
        "raw_output_contents": (6, "repeated bytes"),
    },
    "RepositoryIndexRequest": {"repository_name": (1, "string"), "ready": (2, "bool")},
    "ModelStreamInferResponse": {"error_message": (1, "string"), "infer_response": (2, "ModelInferResponse")},
    "ModelIndex": {**NAMED, "state": (3, "string"), "reason": (4, "string")},
    "RepositoryIndexResponse": {"models": (1, "repeated ModelIndex")},
    "RepositoryParameter": {
        "bool_param": (1, "bool"),
        "int64_param": (2, "int64"),
        "string_param": (3, "string"),
        "bytes_param": (4, "bytes"),
    },
    "RepositoryModelLoadRequest": LOAD,
    "RepositoryModelLoadResponse": {"model_name": (1, "string"), "isLoaded": (2, "bool")},
    "RepositoryModelUnloadRequest": LOAD,
    "RepositoryModelUnloadResponse": {"model_name": (1, "string"), "isUnloaded": (2, "bool")},
}
"""Message → field → number and type. On the wire a message has no name, so that nested ones stand beside the others."""
ONE_OF = {"InferParameter": "parameter_choice", "RepositoryParameter": "parameter_choice"}
"""Messages of which one field is set, and the name of that choice."""


def _file() -> descriptor_pb2.FileDescriptorProto:
    """Return the description of all messages, as protoc would make it of a file."""
    file = descriptor_pb2.FileDescriptorProto(name="open_inference.proto", package=PACKAGE, syntax="proto3")
    for name, fields in FIELDS.items():
        message = file.message_type.add(name=name)
        if name in ONE_OF:
            message.oneof_decl.add(name=ONE_OF[name])
        for field, (number, kind) in fields.items():
            one = message.field.add(name=field, number=number)
            if kind.startswith(MAP):
                _add_map(message, one, name, kind.removeprefix(MAP))
                continue
            one.label = one.LABEL_REPEATED if kind.startswith(REPEATED) else one.LABEL_OPTIONAL
            _set_type(one, kind.removeprefix(REPEATED))
            if name in ONE_OF:
                one.oneof_index = 0
    return file


def _set_type(field: descriptor_pb2.FieldDescriptorProto, kind: str) -> None:
    if kind in SCALARS:
        field.type = getattr(field, SCALARS[kind])
    else:
        field.type, field.type_name = field.TYPE_MESSAGE, f".{PACKAGE}.{kind}"


def _add_map(
    message: descriptor_pb2.DescriptorProto, field: descriptor_pb2.FieldDescriptorProto, owner: str, value: str
) -> None:
    """Make a field a map from strings to values, which is a repeated message of a key and a value."""
    entry = message.nested_type.add(name="ParametersEntry")
    entry.options.map_entry = True
    for name, number, kind in (("key", 1, "string"), ("value", 2, value)):
        part = entry.field.add(name=name, number=number, label=field.LABEL_OPTIONAL)
        _set_type(part, kind)
    field.label, field.type = field.LABEL_REPEATED, field.TYPE_MESSAGE
    field.type_name = f".{PACKAGE}.{owner}.{entry.name}"


_POOL = descriptor_pool.DescriptorPool()
_POOL.Add(_file())
MESSAGES: dict[str, Any] = {
    name: message_factory.GetMessageClass(_POOL.FindMessageTypeByName(f"{PACKAGE}.{name}")) for name in FIELDS
}
"""Classes of the messages, by name."""


@dataclass(frozen=True)
class Damaged:
    """A request whose bytes are no message."""

    reason: str
    id: str = ""

    def ByteSize(self) -> int:
        """Return 0: what came is not known any more."""
        return 0


def parse_request(name: str, data: bytes) -> Any:
    """Return the message that bytes stand for, or a `Damaged`: gRPC would log what is raised as a bug."""
    try:
        return MESSAGES[name].FromString(data)
    except DecodeError as error:
        return Damaged(f"the bytes of the request are no {name}: {first_line(error)}")


def whole(request: Any) -> Any:
    """Return a message; raise an InputError for a `Damaged` one."""
    if isinstance(request, Damaged):
        raise InputError(request.reason)
    return request
