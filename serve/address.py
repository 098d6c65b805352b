"""Addresses of hosts and ports."""

import re
from ipaddress import ip_address

USER = re.compile(r"(^|://)[^/?#]*@")
"""User and password of a URL, or of what was meant as one."""


def address(host: str, port: int) -> str:
    """Return `host:port`, with brackets around an address of IPv6."""
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def without_password(url: str) -> str:
    """Return a URL for logs and errors, without its user and password."""
    return USER.sub(r"\1***@", url)


def is_loopback(host: str) -> bool:
    """Return True if an address is reached from its own machine alone."""
    try:
        return ip_address(host).is_loopback
    except ValueError:  # a name
        return host == "localhost"
