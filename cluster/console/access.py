"""Who may look: one token, made at the start, and sessions that come of it. Knows no HTTP.

A session is a signed expiry time; only those ended before it are kept. All ends with the process.
"""

from __future__ import annotations

import hmac
import secrets
import time
from collections.abc import Callable
from hashlib import sha256

SHORTEST = 32
"""Characters of a token of the user's own."""


class Access:
    """The token and the sessions it opens. Comparisons take the same time whatever differs."""

    def __init__(
        self,
        token_hours: float,
        session_hours: float,
        token: str | None = None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        """token: of the user's own; a random one where None. clock: seconds."""
        self._token = token or secrets.token_urlsafe(32)
        self._key = secrets.token_bytes(32)
        self._clock = clock
        self._until = clock() + 3600 * token_hours
        self._session_s = 3600 * session_hours
        self._ended: dict[str, int] = {}

    @property
    def token(self) -> str:
        """What is printed once."""
        return self._token

    def knows(self, token: str) -> bool:
        """Whether this is the token, and still good."""
        same = hmac.compare_digest(token.encode(), self._token.encode())
        return same and self._clock() < self._until

    def session(self) -> tuple[str, int]:
        """A new session, and how many seconds it lasts: never longer than the token."""
        now = self._clock()
        until = int(min(now + self._session_s, self._until))
        text = f"{until}.{secrets.token_hex(8)}"
        return f"{text}.{self._signed(text)}", max(0, int(until - now))

    def holds(self, session: str) -> bool:
        """Whether a session is one of ours, and not over."""
        text, _, signature = session.rpartition(".")
        if not hmac.compare_digest(signature.encode(), self._signed(text).encode()):
            return False
        return text not in self._ended and self._clock() < int(text.split(".")[0])

    def end(self, session: str) -> None:
        """End a session of ours now, whoever has a copy of it."""
        if not self.holds(session):
            return
        text, now = session.rpartition(".")[0], self._clock()
        self._ended = {each: until for each, until in self._ended.items() if now < until}
        self._ended[text] = int(text.split(".")[0])

    def _signed(self, text: str) -> str:
        return hmac.new(self._key, text.encode(), sha256).hexdigest()
