"""Who may command an instrument: one holder at a time, proven by a token, revocable."""

from __future__ import annotations

import secrets

from drivers.errors import DriverRefused


class Lease:
    """One holder at a time. Not thread-safe by itself: the room's lock guards it."""

    def __init__(self) -> None:
        self.holder: str | None = None
        self._token: str | None = None
        self._revoked: dict[str, str] = {}

    def claim(self, holder: str) -> str:
        """Give the lease to ``holder`` and return its token.

        Raises
        ------
        DriverRefused
            If somebody has it; the message names the holder.
        """
        if self.holder is not None:
            raise DriverRefused(f"the instrument is held by {self.holder}: it must let go first")
        self.holder, self._token = holder, secrets.token_hex(8)
        return self._token

    def revoke(self, why: str) -> None:
        """Take the lease from whoever has it; the old token is refused with this reason."""
        if self._token is not None:
            self._revoked = {self._token: why}  # only the last holder can be told why
        self.holder = self._token = None

    def is_held_by(self, token: str | None) -> bool:
        """Say whether this token is the valid one."""
        return token is not None and token == self._token

    def require(self, token: str | None, what: str) -> None:
        """Let the holder of the valid token pass.

        Raises
        ------
        DriverRefused
            If the token is missing, revoked or somebody else's.
        """
        if self.is_held_by(token):
            return
        why = self._revoked.get(token or "", "this connection does not hold the lease")
        owner = f"; {self.holder} holds it" if self.holder else ""
        raise DriverRefused(f"{what} refused: {why}{owner}")
