"""The adapter that a request of any protocol names, read without the protocol: a guess, for routing alone."""

import json
import re

IN_PATH = re.compile(r"/(?:v2/models|models|v1/models)/(?P<name>[^/?]+)")
FIELDS = ("adapter", "model", "adapter_id", "lora_name")
MAX_JSON_BYTES = 1_000_000
"""Bytes of a body that is read; a longer one goes to any replica."""


def adapter_of(path: str, body: bytes) -> str:
    """Return the name of the adapter, the first of several; empty if the request names none that can be found."""
    if found := IN_PATH.search(path):
        return found["name"]
    if len(body) > MAX_JSON_BYTES or not body.lstrip().startswith(b"{"):
        return ""
    try:
        content = json.loads(body)
    except (ValueError, RecursionError):
        return ""
    parameters = content.get("parameters")
    for place in (content, parameters if isinstance(parameters, dict) else {}):
        for field in FIELDS:
            if name := _first(place.get(field)):
                return name
    return ""


def _first(value: object) -> str:
    """Return a name, or the first of a list of names; empty for anything else."""
    if isinstance(value, list):
        value = next((one for one in value if isinstance(one, str)), "")
    return value if isinstance(value, str) else ""
