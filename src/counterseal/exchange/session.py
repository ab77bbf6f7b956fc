"""A handshake and its channel on a carrier: the thin driver, the only part that waits.

    with connect(carrier, us=lab, to=clinic.history, purpose="model-transfer") as session:
        session.send(b"...")
        reply = session.receive(timeout=30)      # None: they closed, nothing is missing

Whoever fails, the other side sees nothing but the end of the connection (SPEC 9.4).
"""

from __future__ import annotations

import time
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Final, Self

from counterseal.errors import Dropped, TimedOut
from counterseal.exchange.channel import MESSAGE_BYTES
from counterseal.exchange.handshake import Initiator, Responder
from counterseal.exchange.handshake_messages import ANSWER_MESSAGE_BYTES

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import TracebackType

    from counterseal.exchange.carriers import Carrier
    from counterseal.exchange.handshake import Agreed
    from counterseal.exchange.sessionbook import SessionBook
    from counterseal.trust.history import History
    from counterseal.trust.identity import Identity

__all__ = ["Session", "accept", "connect"]

HANDSHAKE_SECONDS: Final = 30.0


def _now() -> datetime:
    return datetime.now(UTC)


class Session:
    """An open channel to `partner`, for one thread at a time."""

    def __init__(self, carrier: Carrier, agreed: Agreed, *, clock: Callable[[], datetime]) -> None:
        self._carrier, self._channel, self._clock = carrier, agreed.channel, clock
        self._closed = False
        self.partner = agreed.partner
        self.purpose = agreed.purpose
        self.id = agreed.session

    def send(self, message: bytes) -> None:
        """Raises Dropped, SessionExpired; ValueError if the message is above the limit."""
        for frame in self._channel.seal(message, at=self._clock()):
            self._carrier.send(frame)

    def receive(self, *, timeout: float) -> bytes | None:
        """The next message; None when the partner has closed and nothing is missing.

        Raises TimedOut, Dropped if the connection ended without that, and what
        `Channel.open` raises; after any but a TimedOut the session is over.
        """
        deadline = time.monotonic() + timeout
        while not self._channel.ended:
            frame = self._carrier.receive(max(0.0, deadline - time.monotonic()))
            if frame is None:
                self._channel.carrier_ended()
                break
            message = self._channel.open(frame, at=self._clock())
            if message is not None:
                return message
        return None

    def close(self) -> None:
        """Tell the partner that this was all, and close the carrier."""
        if self._closed:
            return
        self._closed = True
        try:
            if not self._channel.dead:  # else: without CLOSE, as after any error
                self._carrier.send(self._channel.close())
        except Dropped:
            pass  # they are gone: nobody is left to be told
        finally:
            self._carrier.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if kind is None:
            self.close()
        elif not self._closed:
            # Without CLOSE: the partner must not take half of it for all of it.
            self._closed = True
            self._carrier.close()


def connect(
    carrier: Carrier,
    *,
    us: Identity,
    to: History,
    purpose: str,
    binding: bytes = b"",
    most: int = MESSAGE_BYTES,
    timeout: float = HANDSHAKE_SECONDS,
    clock: Callable[[], datetime] = _now,
) -> Session:
    """Call a partner; the carrier is closed if that fails."""
    side = Initiator(us, to=to, purpose=purpose, binding=binding, most=most)
    deadline = time.monotonic() + timeout
    try:
        carrier.send(side.hello(at=clock()))
        answer = _receive(carrier, deadline)
        carrier.send(side.prove(answer, at=clock()))
        agreed = side.finish(_receive(carrier, deadline), at=clock())
    except BaseException:
        carrier.close()
        raise
    return Session(carrier, agreed, clock=clock)


def accept(
    carrier: Carrier,
    *,
    us: Identity,
    partners: Callable[[str], History | None],
    purpose: str,
    sessions: SessionBook,
    binding: bytes = b"",
    most: int = MESSAGE_BYTES,
    timeout: float = HANDSHAKE_SECONDS,
    clock: Callable[[], datetime] = _now,
) -> Session:
    """Answer a call; the carrier is closed if that fails. `partners`: see `Responder`."""
    side = Responder(
        us, partners=partners, purpose=purpose, sessions=sessions, binding=binding, most=most
    )
    deadline = time.monotonic() + timeout
    try:
        carrier.send(side.answer(_receive(carrier, deadline), at=clock()))
        confirmation, agreed = side.finish(_receive(carrier, deadline), at=clock())
        carrier.send(confirmation)
    except BaseException:
        carrier.close()
        raise
    return Session(carrier, agreed, clock=clock)


def _receive(carrier: Carrier, deadline: float) -> bytes:
    left = deadline - time.monotonic()
    if left <= 0:
        raise TimedOut("the handshake took too long")
    message = carrier.receive(left, most=ANSWER_MESSAGE_BYTES)
    if message is None:
        raise Dropped(
            "the other side ended the handshake",
            hint="they may not have your card, or theirs is newer than the one you have",
        )
    return bytes(message)
