"""HTTP/1.1 without upgrades: a request that offers one is answered as it is, body and all."""

import re

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

HEADER = re.compile(rb"(?<=\r\n)upgrade(?=[ \t]*:)", re.IGNORECASE)
IGNORED = b"Ignored"
"""Name of as many characters, which means nothing."""
HEAD_END = b"\r\n\r\n"


class NoUpgradeProtocol(HttpToolsProtocol):
    """The protocol of uvicorn, to which offers to upgrade (RFC 9110, 7.8) are no header.

    Its parser takes what comes behind the head of such a request for another protocol's and leaves out the body. Java's
    HttpClient and `curl --http2` offer HTTP/2 with every first request.
    """

    def data_received(self, data: bytes) -> None:
        """Read a piece of a request."""
        if (self.cycle is None or self.cycle.response_complete) and HEADER.search(data):
            head, end, body = data.partition(HEAD_END)
            data = HEADER.sub(IGNORED, head) + end + body
        super().data_received(data)
