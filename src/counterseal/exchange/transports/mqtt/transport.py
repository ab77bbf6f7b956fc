"""A broker as a `Transport`.

    deliver   post the letter; serve what its receiver wants until the receiver has all of it
    waiting   letters of a session that the broker keeps, also while we are away
    fetch     say what is wanted until nothing is
    done      let the broker forget the letter, and tell the sender
    publish   the one retained message; `lookup` reads it

The sender keeps nothing, the receiver keeps blocks: kill either, call it again, and it goes on.
"""

from __future__ import annotations

import contextlib
import os
import threading
import time
from typing import TYPE_CHECKING, Final, Literal

from counterseal.crypto.derive import bind
from counterseal.crypto.digest import sha256
from counterseal.errors import CountersealError, FormatError
from counterseal.exchange.transports import silent
from counterseal.exchange.transports.mqtt import messages, topics
from counterseal.exchange.transports.mqtt.broker import Broker, tls_context
from counterseal.exchange.transports.mqtt.connection import Connection
from counterseal.exchange.transports.mqtt.delivery import Delivery, Shape
from counterseal.exchange.transports.mqtt.fetching import Fetching
from counterseal.exchange.transports.mqtt.line import TICK, Line
from counterseal.exchange.transports.mqtt.mail import Mail
from counterseal.exchange.transports.mqtt.messages import Lock
from counterseal.wire import limits
from counterseal.wire.limits import KIB, MIB

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from pathlib import Path

    from counterseal.exchange.transports import BlockSink, BlockSource, Progress, Waiting

__all__ = ["MqttTransport"]

DAY: Final = 86_400.0
LETTERS_KEPT: Final = 30 * DAY
SHIPMENT_KEPT: Final = 7 * DAY  # what a receiver says to a sender who is away
BOARD_KEPT: Final = 366 * DAY
BRIEFLY: Final = 300.0  # a session that only has to outlive a lost connection
BOARD_GRACE: Final = 0.5  # a cluster may bring a retained message after its confirmation
NAME_CHARACTERS: Final = 22  # every broker takes 23
_ROOM: Final = KIB  # around a message: topic, properties


class MqttTransport:
    """Satisfies `Transport`. Methods may be called from several threads.

    `session`: secret text, the same in every run of one identity and known to nobody else. With
    it the broker keeps our letters, and what receivers want, while we are away; but then only
    one process at a time can wait for letters. Without it, or with `keep_letters` false (who
    sends and only wants a receipt), we hear letters while we listen.
    """

    live: Final = True

    def __init__(
        self,
        host: str,
        port: int = 8883,
        *,
        ca_file: Path | None = None,
        username: str | None = None,
        password: str | None = None,
        certificate: tuple[Path, Path] | None = None,
        session: str | None = None,
        keep_letters: bool = True,
        part_bytes: int = MIB,
        window_bytes: int = 8 * MIB,
        patience: float = 30.0,
        version: Literal["5", "3.1.1"] = "5",
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Nothing is connected yet. `patience`: seconds to wait for a silent partner."""
        if not 256 * KIB <= part_bytes <= messages.MAX_PART:
            raise ValueError("parts have 256 KiB to 1 MiB: smaller ones stall, larger ones swell")
        login = None if username is None else (username, password or "")
        tls = tls_context(ca_file, certificate)
        self._broker = Broker(host, port, tls=tls, login=login, version=version)
        self._session = session
        self._letters = "letters" if keep_letters else None
        self._shape = Shape(part_bytes, window_bytes)
        self._patience, self._clock = patience, clock
        self._mail: Mail | None = None
        self._lock = threading.Lock()
        self._secrets: dict[str, bytes] = {}

    def deliver(
        self, box: str, letter: bytes, blocks: BlockSource, *, progress: Progress = silent
    ) -> None:
        """Returns when the receiver has every block; if there is none, when the broker has the
        letter and someone to keep it for.

        Raises TimedOut if no receiver shows up: the letter waits for it, and another call with
        the same letter goes on where this one stopped.
        """
        if len(letter) > limits.LETTER_BYTES:
            raise FormatError("a letter is too long")
        place = topics.letters(box)
        transfer = topics.transfer(place, letter)
        purpose = f"send {transfer}" if blocks.names else None
        packet_bytes = messages.MAX_CONTROL + _ROOM
        with self._line(purpose, keep=SHIPMENT_KEPT, packet_bytes=packet_bytes) as line:
            if not blocks.names:
                line.post(place, letter, expires=LETTERS_KEPT)
                return
            delivery = Delivery(
                line,
                blocks,
                letter,
                to=place,
                transfer=transfer,
                lock=Lock(transfer, getattr(blocks, "secret", b"")),
                expires=LETTERS_KEPT,
                shape=self._shape,
            )
            delivery.run(progress)

    def waiting(self, boxes: Sequence[str], *, wait: float) -> Iterator[Waiting]:
        """Letters stay until `done`: the next call brings them again."""
        deadline = self._clock() + wait
        given: set[str] = set()
        with self._mailbox() as mail:
            mail.listen(boxes)
        while True:
            with self._mailbox() as mail:
                letters = mail.waiting(boxes)
            fresh = [letter for letter in letters if letter.id not in given]
            given.update(letter.id for letter in fresh)
            yield from fresh
            left = deadline - self._clock()
            if not fresh and (given or left <= 0):
                return
            with self._mailbox() as mail:
                mail.pump(0.0 if given else min(TICK, left))

    def fetch(self, letter: Waiting, sink: BlockSink, *, progress: Progress = silent) -> None:
        """Raises TimedOut if the sender is away: what arrived is kept."""
        secret = getattr(sink, "secret", b"")
        with self._lock:
            self._secrets[letter.id] = secret
        with self._line(None, keep=BRIEFLY, packet_bytes=messages.MAX_PART + _ROOM) as line:
            lock = Lock(letter.id, secret)
            fetching = Fetching(line, sink, transfer=letter.id, lock=lock, expires=SHIPMENT_KEPT)
            fetching.run(progress)

    def done(self, letter: Waiting) -> None:
        with self._mailbox() as mail:
            mail.done(letter, Lock(letter.id, self._secrets.pop(letter.id, b"")))
            mail.pump(0.0)

    def publish(self, box: str, letter: bytes) -> None:
        with self._line(None, keep=0, packet_bytes=_ROOM) as line:
            line.put(topics.board(box), letter, expires=BOARD_KEPT, retain=True)

    def lookup(self, box: str) -> bytes | None:
        with self._line(None, keep=0, packet_bytes=limits.LETTER_BYTES + _ROOM) as line:
            return line.look(topics.board(box), limit=limits.LETTER_BYTES, grace=BOARD_GRACE)

    def close(self) -> None:
        with self._lock:
            if self._mail is not None:
                self._mail.close()
                self._mail = None

    @contextlib.contextmanager
    def _mailbox(self) -> Iterator[Mail]:
        """For one thread at a time; after an error the next one begins anew."""
        with self._lock:
            if self._mail is None:
                packet_bytes = limits.LETTER_BYTES + _ROOM
                connection = self._connect(
                    self._letters, keep=LETTERS_KEPT, packet_bytes=packet_bytes
                )
                kept = self._session is not None and self._letters is not None
                self._mail = Mail(connection, kept=kept)
            try:
                yield self._mail
            except CountersealError:
                self._mail.close()
                self._mail = None
                raise

    def _line(self, purpose: str | None, *, keep: float, packet_bytes: int) -> Line:
        connection = self._connect(purpose, keep=keep, packet_bytes=packet_bytes)
        return Line(connection, patience=self._patience, clock=self._clock)

    def _connect(self, purpose: str | None, *, keep: float, packet_bytes: int) -> Connection:
        """With a purpose: under the name that we have for it in every run."""
        if self._session is None or purpose is None:
            name = os.urandom(16).hex()
            keep = min(keep, BRIEFLY) if self._broker.version == "5" else 0
        else:
            # Nobody can tell it from the topics: who knows a name can take the session over.
            name = sha256(bind("mqtt session", self._session.encode(), purpose.encode())).hex()
        return Connection(
            self._broker,
            name=name[:NAME_CHARACTERS],
            keep=keep,
            packet_bytes=packet_bytes,
            patience=self._patience,
            clock=self._clock,
        )
