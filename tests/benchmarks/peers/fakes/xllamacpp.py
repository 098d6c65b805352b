"""xllamacpp, whose server generates what it is asked for, up to the number of tokens in the file of its model.

A prompt that is longer than a slot is refused.
"""

from pathlib import Path
from types import SimpleNamespace
from typing import Any


class CommonParams(SimpleNamespace):
    """Settings, of which some are groups."""

    def __init__(self) -> None:
        super().__init__(model=SimpleNamespace(), cpuparams=SimpleNamespace(), cpuparams_batch=SimpleNamespace())


class Server:
    """A server that answers at once."""

    def __init__(self, params: CommonParams) -> None:
        self.most, self.longest = int(Path(params.model.path).read_text()), params.n_ctx // params.n_parallel

    def handle_completions(self, asked: dict[str, Any]) -> dict[str, Any]:
        """Return the number of tokens, or an error."""
        assert (asked["temperature"], asked["ignore_eos"], asked["cache_prompt"]) == (0, True, False)
        if len(asked["prompt"]) > self.longest:
            return {"error": {"code": 400, "message": "request exceeds the available context size"}}
        return {"usage": {"completion_tokens": min(self.most, asked["max_tokens"])}}
