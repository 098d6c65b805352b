"""A server of classifiers and writers over HTTP and gRPC, and what its process holds."""

import contextlib
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import MappingProxyType

from tests.fixtures.byte_decoder import CONTEXT, write_byte_bundle
from tests.fixtures.chat_templates import HERMES
from tests.reliability.conftest import Server, serve
from tests.serve.conftest import Reference, write_adapter, write_bundle

GRPC = "gRPC (Open Inference Protocol) on "
PAYLOAD_LIMIT = 100_000


@contextlib.contextmanager
def serve_both(
    folder: Path,
    reference: Reference,
    *flags: object,
    context: int = CONTEXT,
    environment: Mapping[str, str] = MappingProxyType({}),
) -> Iterator[Server]:
    """Serve two banks of a folder, and `intent` for clients to load; no traceback may be in the log at the end."""
    classifiers = write_bundle(folder / "classifiers", reference, ["tone", "match", "grade"])
    writers = write_byte_bundle(folder / "writers", HERMES, context=context)
    write_adapter(folder / "adapters" / "intent", reference, "intent")
    more = ("--adapter-dir", folder / "adapters", "--slots", 6, "--grpc-port", 0, "--payload-limit", PAYLOAD_LIMIT)
    with serve(classifiers, writers, "--no-cache", *more, *flags, **environment) as server:
        yield server
    assert server.process.returncode == 0
    assert not tracebacks(server.log), "\n".join(server.log[-60:])


def tracebacks(log: list[str]) -> list[str]:
    """Return the last lines of tracebacks, but for those that gRPC itself prints when it cannot tell a client why."""
    starts = [place for place, line in enumerate(log) if line.startswith("Traceback")]
    ends = [next((line for line in log[start + 1 :] if not line.startswith(" ")), "") for start in starts]
    return [end for end in ends if "grpc._cython.cygrpc.ExecuteBatchError" not in end]


def grpc_address_of(server: Server) -> str:
    """Return the address over gRPC, which is logged after that over HTTP."""
    end = time.monotonic() + 10
    while not (found := [line.partition(GRPC)[2] for line in server.log if GRPC in line]):
        assert time.monotonic() < end
        time.sleep(0.02)
    return found[0]


def counted(server: Server) -> dict[str, int]:
    """Return the numbers of a server's threads, of its sockets and of its other open files, and its memory in kB."""
    process, targets = Path(f"/proc/{server.process.pid}"), []
    for file in (process / "fd").iterdir():
        with contextlib.suppress(FileNotFoundError):
            targets.append(str(file.readlink()))
    sockets = sum(target.startswith("socket:") for target in targets)
    status = dict(line.split(":", 1) for line in (process / "status").read_text().splitlines())
    return {
        "threads": int(status["Threads"]),
        "sockets": sockets,
        "files": len(targets) - sockets,
        "memory": int(status["VmRSS"].split()[0]),
    }
