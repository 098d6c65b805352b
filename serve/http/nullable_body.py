"""JSON bodies in which null is the same as no value, which clients send that write out all their fields."""

from typing import Any

from pydantic import model_validator

from serve.http.body import Body


class NullableBody(Body):
    """A JSON object whose fields are at their defaults where they are null."""

    @model_validator(mode="before")
    @classmethod
    def drop_nulls(cls, body: Any) -> Any:
        """Treat null as absent."""
        return {name: value for name, value in body.items() if value is not None} if isinstance(body, dict) else body
