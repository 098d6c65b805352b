"""Adapters of a replica: those of the folder that all replicas share, and none that clients load into one of them."""

from pathlib import Path

from serve.adapter_loading import AdapterLoading
from serve.api_keys import require_admin
from serve.errors import NotAllowed


class ReplicaLoading(AdapterLoading):
    """Loads adapters for requests that name them, and for a watch, but not for clients."""

    def allowed_root(self) -> Path:
        """Refuse, since the request has reached one replica of several.

        Raises:
            NotAllowed: Always.
        """
        require_admin()
        raise NotAllowed(
            "one replica of a cluster loads no adapter by itself: put its folder below --adapter-dir, which all "
            "replicas read, and start them with --adapter-lookup or --adapter-watch"
        )
