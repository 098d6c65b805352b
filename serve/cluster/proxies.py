"""Ray's proxies, which take the requests: where they listen on each node."""

from ray import serve as ray_serve
from ray.exceptions import RayError
from ray.serve.context import _get_global_client
from ray.serve.exceptions import RayServeException

from serve.address import address
from serve.errors import ConfigurationError

HOST, PORT = "127.0.0.1", 8080
"""Where proxies listen that are started without a choice."""


def start_proxies(host: str | None, port: int | None) -> tuple[str, int]:
    """Start the proxies of a cluster unless they run, and return the host and the port on which they listen.

    Args:
        host: Where they have to listen; None takes what there is.
        port: Likewise.

    Raises:
        ConfigurationError: They run already, and listen elsewhere; or they do not start.
    """
    wanted = (HOST if host is None else host, PORT if port is None else port)
    try:
        ray_serve.start(proxy_location="EveryNode", http_options={"host": wanted[0], "port": wanted[1]})
    except (TimeoutError, RuntimeError, RayError, RayServeException) as error:
        raise ConfigurationError(
            f"Ray's proxies do not listen on {address(*wanted)}: {str(error).splitlines()[-1]}; give another --port"
        ) from error
    config = _get_global_client().http_config
    found = (str(config.host), int(config.port))
    if found != (host or found[0], found[1] if port is None else port):
        raise ConfigurationError(
            f"Ray Serve on this cluster listens on {address(*found)} already, not on {address(*wanted)}: leave --host "
            "and --port out, or end all that it serves with serve shutdown"
        )
    return found
