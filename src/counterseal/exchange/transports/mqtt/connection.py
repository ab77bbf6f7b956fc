"""One connection to a broker: paho does MQTT, `ssl` does TLS, the caller moves it with `pump`.

No thread: `pump` waits for the socket, puts what arrived into `inbox` and comes back; `ready`
says whether it would carry more at once. A connection that is lost is made again,
with growing pauses; the broker keeps the session meanwhile, and `generation` tells the caller
that it happened.
"""

from __future__ import annotations

import contextlib
import select
import socket
import ssl
import time
from collections import deque
from typing import TYPE_CHECKING, Any, Final

from counterseal.errors import CountersealError, Dropped, QuotaExceeded, TrustError
from counterseal.exchange.transports.mqtt.broker import Arrived, Posted, refusal
from counterseal.exchange.transports.mqtt.dialect import Dialect
from counterseal.wire.limits import MIB

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from counterseal.exchange.transports.mqtt.broker import Broker

__all__ = ["Connection"]

KEEPALIVE: Final = 60
CONNECT_SECONDS: Final = 10.0
FIRST_PAUSE, MAX_PAUSE = 0.1, 5.0  # between attempts to connect again
FOR_NOTHING: Final = 4  # connections in a row that are lost soon and before they were used
TAKEN_OVER: Final = 0x8E
_NOT_NOW: Final = (0x88, 0x89, 0x8B)  # unavailable, busy, shutting down

# glibc gives memory back to the system when a little is free at the end, and pays for each MiB
# that arrives with 256 page faults. It learns from one large block, freed at once, not to: that
# doubles the speed of both ends. The block itself is never touched, so it costs nothing.
_BALLAST: Final = 4 * MIB


class Connection:
    """Connected when made. Raises Dropped, TrustError or QuotaExceeded."""

    def __init__(
        self,
        broker: Broker,
        *,
        name: str,
        keep: float,
        packet_bytes: int,
        patience: float,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        """`name`: of our session, which the broker keeps for `keep` seconds when we are away."""
        bytearray(_BALLAST)
        self._broker = broker
        self._dialect = Dialect(broker.version, keep=int(keep), packet_bytes=packet_bytes)
        self._patience, self._clock, self._sleep = patience, clock, sleep
        self.generation = 0
        self.max_packet = 256 * MIB  # what MQTT itself allows
        self._queued = 0
        self.inbox: deque[Arrived] = deque()
        self._up = False
        self._refused: CountersealError | None = None
        self._pause, self._try_at, self._lost_at = FIRST_PAUSE, 0.0, 0.0
        self._since, self._worked, self._for_nothing = 0.0, False, 0
        self._posted: dict[int, Posted] = {}
        self._leaving: dict[int, int] = {}
        self._subscribed: dict[int, Sequence[int] | None] = {}
        self._topics: dict[str, tuple[int, bool]] = {}
        self._client = self._dialect.client(name)
        self._client.connect_timeout = CONNECT_SECONDS
        self._client.tls_set_context(broker.tls)
        if broker.login is not None:
            self._client.username_pw_set(*broker.login)
        self._client.on_connect = self._on_connect
        self._client.on_disconnect = self._on_disconnect
        self._client.on_message = self._on_message
        self._client.on_publish = self._on_publish
        self._client.on_subscribe = self._on_subscribe
        self._connect()

    def publish(
        self, topic: str, data: bytes, *, qos: int, expires: float, retain: bool = False
    ) -> Posted:
        """Raises QuotaExceeded if the broker has said that it takes no message so large."""
        if len(data) + 256 > self.max_packet:
            raise QuotaExceeded(
                f"the broker takes no message of {len(data)} bytes",
                hint=f"it says {self.max_packet}: ask who runs it",
            )
        self._worked = True
        properties = self._dialect.properties("PUBLISH", MessageExpiryInterval=int(expires))
        sent = self._client.publish(topic, data, qos=qos, retain=retain, properties=properties)
        posted = Posted()
        if self._dialect.full(sent):
            raise Dropped("the broker does not answer")
        if qos:
            self._posted[sent.mid] = posted
        elif sent.rc == 0 and not sent.is_published():
            self._leaving[sent.mid] = len(data)
            self._queued += len(data)
        return posted

    def ready(self) -> bool:
        """Connected, and all that was published has left: more would wait in memory, or be lost."""
        return self._up and self._client.socket() is not None and self._queued == 0

    def subscribe(self, topics: Sequence[str], *, qos: int, retained: bool = False) -> None:
        """Exactly these; returns when the broker has confirmed."""
        new = {topic: (qos, retained) for topic in topics if topic not in self._topics}
        if not new:
            return
        self._topics |= new
        deadline = self._clock() + CONNECT_SECONDS
        generation = self.generation
        number = self._subscribe(new)
        while self._subscribed.get(number) is None:
            if self._clock() > deadline:
                raise Dropped("the broker does not answer")
            self.pump(0.5)
            if self.generation != generation:  # all topics were subscribed with the new connection
                return
        if any(reason >= 0x80 for reason in self._subscribed[number] or ()):
            raise TrustError(
                "the broker does not let us read there",
                hint="ask who runs it for access to the topics cs1/#",
            )

    def acknowledge(self, number: int) -> None:
        if self._up:
            self._worked = True
            self._client.ack(number, 1)

    def pump(self, timeout: float) -> None:
        """Move bytes for at most `timeout` seconds; less if anything happened."""
        if self._refused is not None:
            raise self._refused
        if self._up and self._client.socket() is not None:
            self._move(timeout)
        else:
            self._reconnect(timeout)

    def settle(self, posted: Posted, *, seconds: float) -> None:
        """Wait for the broker's answer. Raises TrustError or QuotaExceeded if it is no."""
        deadline = self._clock() + seconds
        while posted.reason is None and self._clock() < deadline:
            self.pump(0.1)
        self.check(posted)

    def check(self, posted: Posted) -> None:
        if posted.reason is None:
            raise Dropped("the broker does not answer")
        if posted.reason >= 0x80:
            raise refusal(posted.reason)

    def close(self, *, forget: bool) -> None:
        """`forget`: the broker need not keep our session."""
        with contextlib.suppress(CountersealError, OSError):
            if self._up:
                self._refused = Dropped("the connection was closed")
                self._client.disconnect(properties=self._dialect.farewell(forget=forget))
                deadline = self._clock() + 1.0
                while self._client.socket() is not None and self._clock() < deadline:
                    self._move(0.1)
        self._hang_up()

    def _hang_up(self) -> None:
        sock = self._client.socket()
        if sock is not None:
            sock.close()

    def _connect(self) -> None:
        """Once; whether to try again is the caller's decision."""
        self._up, self._subscribed = False, {}
        self._queued, self._leaving = 0, {}
        host, port = self._broker.host, self._broker.port
        try:
            self._client.connect(host, port, keepalive=KEEPALIVE, **self._dialect.greeting())
            self._await_welcome()
        except ssl.SSLCertVerificationError as error:
            raise TrustError(
                f"{host} is not the broker it says it is ({error.verify_message})",
                hint="check its name, or give the file of the authority that signed for it",
            ) from None
        except OSError as error:
            raise Dropped(
                f"no connection to {host} port {port} ({error})",
                hint=f"is a broker there that speaks MQTT {self._broker.version} over TLS?",
            ) from error
        finally:
            if not self._up:
                self._hang_up()
        self.generation += 1
        self._since, self._worked = self._clock(), False
        if self._topics:
            self._subscribe(self._topics)

    def _await_welcome(self) -> None:
        deadline = self._clock() + CONNECT_SECONDS
        while not self._up:
            if self._client.socket() is None:
                raise ConnectionError("the broker hung up")
            if self._clock() > deadline:
                raise TimeoutError("no answer")
            self._move(0.5)
            if self._refused is not None:
                raise self._refused

    def _reconnect(self, timeout: float) -> None:
        now = self._clock()
        if self._up:
            self._up, self._lost_at = False, now
            self._note_loss(now)
            self._try_at = now + self._pause
        if now < self._try_at:
            self._sleep(min(timeout, self._try_at - now))
            return
        try:
            self._connect()
        except Dropped:
            if self._clock() > self._lost_at + self._patience:
                raise
            self._try_at = self._clock() + self._pause
            self._pause = min(2 * self._pause, MAX_PAUSE)

    def _note_loss(self, now: float) -> None:
        """Two commands with one session throw each other out; not every broker says so."""
        if self._worked or now > self._since + KEEPALIVE:
            self._pause, self._for_nothing = FIRST_PAUSE, 0
            return
        self._for_nothing += 1
        self._pause = min(2 * self._pause, MAX_PAUSE)
        if self._for_nothing >= FOR_NOTHING:
            raise _taken_over()

    def _move(self, timeout: float) -> None:
        client, sock = self._client, self._client.socket()
        _hurry(sock)
        poll = select.poll()
        poll.register(sock, select.POLLIN | (select.POLLOUT if client.want_write() else 0))
        ready = poll.poll(0 if sock.pending() else int(1000 * timeout) + 1)
        if sock.pending() or any(event & ~select.POLLOUT for _, event in ready):
            client.loop_read()
            while client.socket() is not None and client.socket().pending():
                client.loop_read()
        if client.socket() is not None and client.want_write():
            client.loop_write()
        if client.socket() is not None:
            client.loop_misc()

    def _subscribe(self, topics: dict[str, tuple[int, bool]]) -> int:
        _, number = self._client.subscribe(self._dialect.subscription(topics))
        if number is not None:
            self._subscribed.setdefault(number, None)
        return int(number or -1)

    def _on_connect(
        self, _client: Any, _data: Any, _flags: Any, reason: Any, properties: Any
    ) -> None:
        code = reason.value
        if code >= 0x80:
            if code in _NOT_NOW:
                return
            self._refused = refusal(code)
            return
        self.max_packet = getattr(properties, "MaximumPacketSize", 256 * MIB)
        self._up = True

    def _on_disconnect(
        self, _client: Any, _data: Any, _flags: Any, reason: Any, _properties: Any
    ) -> None:
        if reason.value == TAKEN_OVER:
            self._refused = _taken_over()

    def _on_message(self, _client: Any, _data: Any, message: Any) -> None:
        with contextlib.suppress(UnicodeDecodeError):
            arrived = Arrived(
                topic=message.topic,
                data=bytes(message.payload),
                number=message.mid,
                qos=message.qos,
                retained=message.retain,
                again=message.dup,
            )
            self.inbox.append(arrived)

    def _on_publish(
        self, _client: Any, _data: Any, number: int, reason: Any, _properties: Any
    ) -> None:
        posted = self._posted.pop(number, None)
        if posted is not None:
            posted.reason = reason.value
        self._queued -= self._leaving.pop(number, 0)

    def _on_subscribe(
        self, _client: Any, _data: Any, number: int, reasons: Any, _properties: Any
    ) -> None:
        self._subscribed[number] = [reason.value for reason in reasons]


def _hurry(sock: socket.socket) -> None:
    """Send small messages at once, and acknowledge at once what comes.

    Brokers leave Nagle's algorithm on: the end of each message waits until we acknowledge what
    was before it, which systems otherwise put off by 40 ms. Linux forgets the second setting.
    """
    with contextlib.suppress(OSError):
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if hasattr(socket, "TCP_QUICKACK"):
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_QUICKACK, 1)


def _taken_over() -> Dropped:
    return Dropped(
        "another command took over our session at the broker",
        hint="one command at a time can wait for letters",
    )
