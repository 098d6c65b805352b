"""A cluster of several nodes, each with processes of its own, of which one is killed: `python -m … BUNDLE`.

Prints one JSON object: what became of requests that were sent meanwhile, each again once if it failed, and the seconds
until there were two replicas again.
"""

import json
import sys
import threading
import time
from collections import Counter

import httpx
import ray
from ray import serve as ray_serve
from ray.cluster_utils import Cluster

from benchmarks.support.processes import free_port
from serve.cluster.ray_app import build

NODE = {"num_cpus": 2, "object_store_memory": 100_000_000}
BEFORE, AFTER = 3.0, 5.0
"""Seconds of load before a node is killed, and after there are two replicas again."""
DEADLINE = 90.0


def main(bundle: str) -> None:
    cluster = Cluster(
        initialize_head=True,
        head_node_args={"num_cpus": 0, "object_store_memory": 100_000_000, "include_dashboard": False},
    )
    nodes = [cluster.add_node(**NODE) for _ in range(2)]
    ray.init(address=cluster.address, log_to_driver=False)
    port = free_port()
    ray_serve.start(proxy_location="HeadOnly", http_options={"host": "127.0.0.1", "port": port})
    settings = {"min_replicas": 2, "max_replicas": 2, "cpus_per_replica": 2, "threads": 1, "no_cache": True}
    ray_serve.run(build({"bundles": [bundle], "provider": "cpu", **settings}), name="adamix")
    outcomes: Counter[str] = Counter()
    ended = threading.Event()
    threads = [threading.Thread(target=ask, args=(f"http://127.0.0.1:{port}", ended, outcomes)) for _ in range(4)]
    for thread in threads:
        thread.start()
    time.sleep(BEFORE)
    before = outcomes.total()
    cluster.remove_node(nodes[1], allow_graceful=False)
    killed = time.monotonic()
    cluster.add_node(**NODE)
    while running() == 2 and time.monotonic() - killed < 20:  # until the controller has noticed
        time.sleep(0.2)
    while running() < 2 and time.monotonic() - killed < DEADLINE:
        time.sleep(0.2)
    seconds = time.monotonic() - killed
    time.sleep(AFTER)
    ended.set()
    for thread in threads:
        thread.join()
    found = {"outcomes": outcomes, "before": before, "seconds": seconds, "running": running()}
    sys.stdout.write(json.dumps(found) + "\n")
    ray_serve.shutdown()
    ray.shutdown()
    cluster.shutdown()


def running() -> int:
    deployment = ray_serve.status().applications["adamix"].deployments["replica"]
    return deployment.replica_states.get("RUNNING", 0)


def ask(url: str, ended: threading.Event, outcomes: "Counter[str]") -> None:
    with httpx.Client(base_url=url, timeout=60) as client:
        while not ended.is_set():
            first = once(client)
            outcome = first if first == "200" else f"{once(client)} after {first}"
            outcomes[outcome] += 1


def once(client: httpx.Client) -> str:
    try:
        return str(client.post("/predict", json={"inputs": "good", "adapter": "tone"}).status_code)
    except httpx.TransportError as error:
        return type(error).__name__


if __name__ == "__main__":
    main(sys.argv[1])
