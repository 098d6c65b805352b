"""Values of the commands' flags: what a text stands for, or the reason why it stands for nothing."""

import argparse
import re
from pathlib import Path

ORIGIN = re.compile(r"[a-z][a-z0-9+.-]*://[^/?#@*\s]+")
PATH = re.compile(r"[A-Za-z0-9._~/-]*")


def folder(text: str) -> Path:
    """Return a folder that is there."""
    if not Path(text).is_dir():
        raise argparse.ArgumentTypeError(f"there is no folder {text}")
    return Path(text)


def root_path(text: str) -> str:
    """Return a path that begins with a slash and does not end with one; empty for the root."""
    if not PATH.fullmatch(text):
        raise argparse.ArgumentTypeError(f"{text!r} is not a path such as /nlp")
    path = text.strip("/")
    return f"/{path}" if path else ""


def origin(text: str) -> str:
    """Return an origin of pages in the form in which browsers send it; `*` is any."""
    found = text.removesuffix("/").lower()
    if found != "*" and not ORIGIN.fullmatch(found):
        raise argparse.ArgumentTypeError(f"{text!r} is no origin such as https://example.org, and not *")
    return found


def whole(text: str) -> int:
    """Return a whole number."""
    try:
        return int(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number") from None


def number(text: str) -> float:
    """Return a number."""
    try:
        return float(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number") from None


def positive(text: str) -> int:
    """Return the whole number above 0 that a flag gives."""
    value = whole(text)
    if value < 1:
        raise argparse.ArgumentTypeError(f"{text} is not positive")
    return value


def not_negative(text: str) -> int:
    """Return a whole number from 0 on."""
    value = whole(text)
    if value < 0:
        raise argparse.ArgumentTypeError(f"{text} is negative")
    return value


def seconds(text: str) -> float:
    """Return a finite time from 0 on."""
    value = number(text)
    if not 0 <= value < float("inf"):
        raise argparse.ArgumentTypeError(f"{text} is not a number of seconds")
    return value


def positive_seconds(text: str) -> float:
    """Return a time above 0, which may be infinite."""
    value = number(text)
    if not value > 0:
        raise argparse.ArgumentTypeError(f"{text} is not positive")
    return value


def port(text: str) -> int:
    """Return a port; 0 takes a free one."""
    if "://" in text:
        raise argparse.ArgumentTypeError(
            f"{text} is an address, such as Kubernetes gives to ADAMIX_PORT where a service is called adamix: rename "
            "the service, or set enableServiceLinks to false"
        )
    value = whole(text)
    if not 0 <= value <= 65535:
        raise argparse.ArgumentTypeError(f"{text} is not a port: ports are 0 to 65535")
    return value
