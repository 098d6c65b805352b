"""Bodies of requests that are refused with their first fault: it costs no more, however many others there are."""

from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, FailFast, model_validator


class FirstFault(FailFast):
    """An annotation of a list or a mapping whose checks end with the first fault."""

    __hash__ = object.__hash__
    """A union's members have to have one."""


Strings = Annotated[list[str], FirstFault()]


class Body(BaseModel):
    """A JSON object without fields that it does not have."""

    model_config = ConfigDict(extra="forbid")

    @model_validator(mode="before")
    @classmethod
    def keep_one_stranger(cls, body: Any) -> Any:
        """Leave out all unknown fields but one, which is the fault; null may yet be taken for what was not given."""
        if not isinstance(body, dict):
            return body
        unknown = [name for name in body if name not in cls.model_fields]
        first = min(unknown, key=lambda name: body[name] is None, default=None)
        return body if first is None else {name: body[name] for name in (*cls.model_fields, first) if name in body}
