"""JSON bodies whose validation stops at the first error, so that refusing one costs the same however wrong it is."""

from codecs import BOM_UTF8
from typing import Annotated, Any, Self

from pydantic import BaseModel, ConfigDict, FailFast, model_validator


class FirstError(FailFast):
    """Annotation of a list or mapping whose validation ends with the first error."""

    __hash__ = object.__hash__
    """Members of a union must be hashable."""


Strings = Annotated[list[str], FirstError()]


class Body(BaseModel):
    """A JSON object in which unknown fields are an error."""

    model_config = ConfigDict(extra="forbid")

    @classmethod
    def from_json(cls, body: bytes) -> Self:
        """Return the object that a body has; a byte order mark before it is skipped, as RFC 8259 allows.

        Raises:
            ValidationError: The body is not JSON, or another object.
        """
        return cls.model_validate_json(body.removeprefix(BOM_UTF8))

    @model_validator(mode="before")
    @classmethod
    def keep_one_unknown(cls, body: Any) -> Any:
        """Drop all unknown fields but one, which becomes the error; a field that is null counts last."""
        if not isinstance(body, dict):
            return body
        known = {field.alias or name: None for name, field in cls.model_fields.items()}
        unknown = [name for name in body if name not in known]
        first = min(unknown, key=lambda name: body[name] is None, default=None)
        return body if first is None else {name: body[name] for name in (*known, first) if name in body}
