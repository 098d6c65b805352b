"""Messages of the Open Inference Protocol, in JSON."""

from typing import Annotated, Any

from pydantic import ConfigDict, Field, StrictInt

from serve.http.body import Body, FirstError
from serve.http.protocol import ErrorKind

Parameters = Annotated[dict[str, Any] | None, FirstError()]
"""Values by name; null is the same as none."""


class InputTensor(Body):
    """A named tensor of texts: in `data`, or in `binary_data_size` bytes behind the JSON."""

    name: str
    datatype: str
    shape: Annotated[list[StrictInt], FirstError()]
    parameters: Parameters = None
    data: Annotated[list[Any] | None, FirstError()] = None


class RequestedOutput(Body):
    """A tensor that the response shall have."""

    name: str
    parameters: Parameters = None


class InferRequest(Body):
    """Tensors in, tensors out."""

    model_config = ConfigDict(
        json_schema_extra={
            "example": {
                "inputs": [{"name": "text", "datatype": "BYTES", "shape": [1], "data": ["It works like a charm."]}]
            }
        }
    )

    id: Annotated[str | None, Field(description="comes back in the response")] = None
    model_name: Annotated[str | None, Field(description="the same as in the path")] = None
    model_version: Annotated[str | None, Field(description="the same as in the path")] = None
    parameters: Annotated[
        Parameters,
        Field(
            description="adapter, truncate, windows, overlap and raw_scores as in /predict, or for generators those of "
            "/v1/completions; binary_data_output"
        ),
    ] = None
    inputs: Annotated[list[InputTensor], FirstError()]
    outputs: Annotated[list[RequestedOutput] | None, FirstError(), Field(description="all if this is left out")] = None


def error_body(message: str, kind: ErrorKind, param: str | None) -> dict[str, Any]:
    """Return an error in the protocol's form."""
    return {"error": message}
