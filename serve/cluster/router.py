"""The request router of Ray Serve that sends the requests of an adapter to the same replicas."""

import random
from typing import Any

from ray.serve.request_router import FIFOMixin, MultiplexMixin, PendingRequest, RequestRouter, RunningReplica

from serve.cluster.affinity import FACTOR, LEAST, preferred


class AdapterRouter(FIFOMixin, MultiplexMixin, RequestRouter):
    """Routes by the multiplexed model id of a request, the name of an adapter; without one, to the less busy of two."""

    least: int = LEAST
    factor: float = FACTOR

    def initialize_state(self, **options: Any) -> None:
        """Take the options of `request_router_kwargs`: `least` and `factor` of `serve.cluster.affinity.preferred`."""
        self.least = int(options.get("least", LEAST))
        self.factor = float(options.get("factor", FACTOR))

    async def choose_replicas(
        self, candidate_replicas: list[RunningReplica], pending_request: PendingRequest | None = None
    ) -> list[list[RunningReplica]]:
        """Return the replicas in the order in which they are tried, each alone, or two of which the less busy is taken.

        The lengths of queues are those that this router knows of late; a replica that it knows nothing of counts as
        free, and refuses the request if it is not.
        """
        adapter = "" if pending_request is None else pending_request.metadata.multiplexed_model_id
        if not adapter:
            return [random.sample(candidate_replicas, min(2, len(candidate_replicas)))]
        replicas = {str(one.replica_id.unique_id): one for one in candidate_replicas}
        loads = {name: self.replica_queue_len_cache.get(one.replica_id) or 0 for name, one in replicas.items()}
        ordered = preferred(adapter, replicas, loads, least=self.least, factor=self.factor)
        return [[replicas[name]] for name in ordered]
