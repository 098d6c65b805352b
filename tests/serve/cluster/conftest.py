"""A Ray cluster of one node on this machine, with servers of tiny bundles."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest

from benchmarks.support.processes import free_port
from tests.fixtures.byte_decoder import write_byte_bundle
from tests.fixtures.ray_node import ray_node
from tests.serve.conftest import Reference, reference, write_adapter, write_bundle

__all__ = ["ray_node", "reference"]

Deploy = Callable[..., httpx.Client]
LOOKED_UP = [f"tenant{number}" for number in range(8)]


@pytest.fixture(scope="module")
def ray_cluster(ray_node: Any) -> Iterator[int]:
    """The port of the cluster's proxy."""
    from ray import serve as ray_serve

    port = free_port()
    ray_serve.start(proxy_location="HeadOnly", http_options={"host": "127.0.0.1", "port": port})
    yield port
    ray_serve.shutdown()


@pytest.fixture
def deploy(ray_cluster: int) -> Iterator[Deploy]:
    """Deploys bundles under a prefix of their own until the test ends, and returns a client."""
    with deployments(ray_cluster) as run:
        yield run


@contextmanager
def deployments(port: int) -> Iterator[Deploy]:
    """Yield what deploys bundles until the context ends, behind the proxy at a port."""
    from ray import serve as ray_serve

    from serve.cluster.ray_app import build

    names: set[str] = set()

    def run(name: str, *bundles: Path, **settings: Any) -> httpx.Client:
        names.add(name)
        every = {"provider": "cpu", "threads": 1, "no_cache": True, "cpus_per_replica": 0.5, "root_path": f"/{name}"}
        application = build({"bundles": [str(one) for one in bundles], "name": name, **every, **settings})
        ray_serve.run(application, name=name, route_prefix=f"/{name}")
        return httpx.Client(base_url=f"http://127.0.0.1:{port}/{name}", timeout=60)

    yield run
    for name in names:
        ray_serve.delete(name)


@pytest.fixture(scope="session")
def classifiers(tmp_path_factory: pytest.TempPathFactory, reference: Reference) -> Path:
    """A bank of two classifiers, with adapters beside it that are loaded on first use."""
    folder = tmp_path_factory.mktemp("cluster")
    for name in LOOKED_UP:
        write_adapter(folder / "adapters" / name, reference, "tone", name=name)
    return write_bundle(folder / "bundle", reference, ["tone", "intent"])


@pytest.fixture(scope="session")
def generators(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A bank of generators, which may write for long."""
    folder = tmp_path_factory.mktemp("generators") / "bundle"
    return write_byte_bundle(folder, "{{ messages[0].content }}", context=8192)
