"""Connections of the server that end when their client neither speaks nor listens.

uvicorn waits for a request's first line and headers, and for an answer to be read, as long as the connection is open:
clients that do neither would take all files that the process may open.
"""

import asyncio
from typing import Any

from uvicorn.protocols.http.auto import AutoHTTPProtocol


class Timely(AutoHTTPProtocol):  # type: ignore[misc, valid-type]
    """uvicorn's protocol, with a look at each connection every so many seconds.

    One that is at the same request as before, or has none, is cut off if nothing of this request is still to be done.
    How long a body and an answer may take is the application's to say.
    """

    SECONDS = 60.0
    """Time between two looks."""

    def connection_made(self, transport: asyncio.Transport) -> None:
        """Begin to look, as asyncio asks it."""
        super().connection_made(transport)
        self._next_look = self.loop.call_later(self.SECONDS, self._look, self.cycle)

    def connection_lost(self, exc: Exception | None) -> None:
        """Look no more, as asyncio asks it."""
        self._next_look.cancel()
        super().connection_lost(exc)

    def _look(self, former: Any) -> None:  # noqa: ANN401
        is_idle = self.cycle is former and (former is None or former.response_complete)
        if is_idle or self.transport.is_closing():
            self.transport.abort()  # closing alone waits until what was said has been read
        else:
            self._next_look = self.loop.call_later(self.SECONDS, self._look, self.cycle)
