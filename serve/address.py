"""Addresses of hosts and ports."""


def address(host: str, port: int) -> str:
    """Return `host:port`, with brackets around an address of IPv6."""
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
