"""The client's side of a mailbox: the transport `https`."""

from __future__ import annotations

import math
import time
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Final

from counterseal.errors import Aborted, CountersealError
from counterseal.exchange.boxes import box as box_of
from counterseal.exchange.transports import Waiting, silent
from counterseal.exchange.transports.https import lanes
from counterseal.exchange.transports.https.board import Board
from counterseal.exchange.transports.https.limits import BLOCKS, BOXES, LONGEST_WAIT
from counterseal.exchange.transports.https.pool import Pool
from counterseal.exchange.transports.https.protocol import (
    JSON,
    Listing,
    Missing,
    Names,
    Partial,
    Posting,
    join,
    split,
)
from counterseal.exchange.transports.https.slot_user import SlotUser
from counterseal.exchange.transports.https.transfer import Download, Upload
from counterseal.wire import canonical, limits

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    from counterseal.exchange.transports import BlockSink, BlockSource, Progress
    from counterseal.exchange.transports.https.http1 import Stream
    from counterseal.trust.history import History
    from counterseal.trust.identity import Identity

__all__ = ["HttpsTransport"]

ROUNDS: Final = 3  # blocks that vanish while they are listed, because a letter went
ANSWER_BYTES: Final = 8 * limits.MIB
CONNECTIONS: Final = 2  # more only make threads wait for each other, on a fast line


def _now() -> datetime:
    return datetime.now(UTC)


class HttpsTransport(SlotUser):
    """Satisfies `Transport`. One for each thread; it uses several connections itself.

    `server` is the pinned history of the mailbox's operator: any other end is refused before it
    learns who we are. `partners` are the identities we write to: a box says neither, and the
    mailbox wants to know whose it is. Without `by` there are only slots.
    """

    live: Final = False

    def __init__(
        self,
        host: str,
        port: int,
        *,
        by: Identity | None,
        server: History | None,
        partners: Iterable[str] = (),
        connections: int = CONNECTIONS,
        clock: Callable[[], datetime] = _now,
        timeout: float = 30.0,
        patience: float = 30.0,
    ) -> None:
        """Connects when it is first used. `patience` is how long, in seconds, a transfer tries
        to reach a mailbox that went away in the middle of it."""
        if by is not None and server is None:
            raise ValueError("without the mailbox's card, anybody could be the mailbox")
        super().__init__(Pool(host, port, by=by, server=server, clock=clock, timeout=timeout))
        us = "" if by is None else by.history.identity
        self._recipients = {box_of(us, one): one for one in partners if us}
        self._connections = connections
        self._patience = patience
        self._board = Board(self._pool)

    # ------------------------------------------------------------------ letters and blocks

    def deliver(
        self, box: str, letter: bytes, blocks: BlockSource, *, progress: Progress = silent
    ) -> None:
        names = list(dict.fromkeys(blocks.names))
        total = sum(map(blocks.size, names))
        posting = Posting(
            kind="posting",
            recipient=self._recipient(box),
            letter=letter,
            blocks=join(list(blocks.names)),
        )
        data = canonical.encode(posting)
        for _ in range(ROUNDS):
            self._upload(names, blocks, total, progress)
            reply = self._pool.call(
                "POST",
                f"/v1/boxes/{box}/letters",
                {"content-type": JSON},
                data,
                wait=_time_to_sync(total),
                expected=(200, 201, 409),
            )
            if reply.status != 409:
                progress(total, total)
                return
        raise reply.error()

    def _upload(
        self, names: list[str], blocks: BlockSource, total: int, progress: Progress
    ) -> None:
        if not names:
            return
        wanted, begun = self._missing(None, names)
        tally = lanes.Tally(total - sum(map(blocks.size, wanted)), total)
        jobs = [
            Upload(name, blocks, host=self._pool.host, tally=tally, begun=begun.get(name))
            for name in wanted
        ]

        def renew(stream: Stream, waiting: Sequence[Upload]) -> list[Upload]:
            absent, begun = self._missing(stream, [job.name for job in waiting])
            for job in waiting:
                job.begun = begun.get(job.name)
                if job.name not in absent:
                    job.done_elsewhere()
            return [job for job in waiting if job.name in absent]

        self._run(jobs, tally, renew, progress)

    def _missing(
        self, stream: Stream | None, names: list[str]
    ) -> tuple[list[str], dict[str, Partial]]:
        """Which of these the mailbox wants, and what it has of them."""
        absent: list[str] = []
        begun: dict[str, Partial] = {}
        for start in range(0, len(names), BLOCKS):
            question = Names(kind="names", names=join(names[start : start + BLOCKS]))
            target, data = "/v1/blocks/missing", canonical.encode(question)
            headers = {"content-type": JSON}
            if stream is None:
                reply = self._pool.call("POST", target, headers, data, limit=ANSWER_BYTES)
            else:
                reply = self._pool.exchange(
                    stream, "POST", target, headers, data, limit=ANSWER_BYTES
                )
                if reply.status != 200:
                    raise reply.error()
            answer = canonical.decode(reply.body, Missing, limit=ANSWER_BYTES, what="answer")
            absent += split(answer.names)
            begun |= {one.name: one for one in answer.partial}
        if not set(absent) <= set(names):
            raise Aborted("blocks nobody asked about", party="mailbox", check="missing blocks")
        return list(dict.fromkeys(absent)), begun

    def waiting(self, boxes: Sequence[str], *, wait: float) -> Iterator[Waiting]:
        end = time.monotonic() + wait
        while True:
            found = False
            chunks = [boxes[start : start + BOXES] for start in range(0, len(boxes), BOXES)]
            left = max(end - time.monotonic(), 0.0)
            for chunk in chunks:
                for letter in self._listed(chunk, wait=left / len(chunks)):
                    found = True
                    yield letter
            if found or time.monotonic() >= end or not chunks:
                return

    def _listed(self, boxes: Sequence[str], *, wait: float) -> Iterator[Waiting]:
        after, seen = "", set[str]()
        seconds = math.ceil(min(wait, LONGEST_WAIT))
        while True:
            query = "&".join([*(f"box={box}" for box in boxes), f"wait={seconds}"])
            query += f"&after={after}" if after else ""
            reply = self._pool.call("GET", f"/v1/boxes?{query}", limit=ANSWER_BYTES, wait=seconds)
            page = canonical.decode(reply.body, Listing, limit=ANSWER_BYTES, what="list of letters")
            for letter in page.letters:
                if letter.id in seen or letter.box not in boxes:
                    continue
                seen.add(letter.id)
                data = self._read(f"/v1/boxes/{letter.box}/letters/{letter.id}")
                if data is not None:
                    yield Waiting(letter.box, letter.id, data)
            if not page.more or not page.letters or after == page.letters[-1].id:
                return
            after, seconds = page.letters[-1].id, 0

    def _read(self, target: str) -> bytes | None:
        reply = self._pool.call("GET", target, limit=limits.LETTER_BYTES, expected=(200, 404))
        return reply.body if reply.status == 200 else None

    def fetch(
        self,
        letter: Waiting,  # noqa: ARG002 - a block's name is enough here
        sink: BlockSink,
        *,
        progress: Progress = silent,
    ) -> None:
        names = list(sink.missing())
        tally = lanes.Tally(0, sum(map(sink.size, names)))
        jobs = [Download(name, sink, host=self._pool.host, tally=tally) for name in names]
        self._run(jobs, tally, lambda _stream, waiting: waiting, progress)

    def _run(
        self,
        jobs: Sequence[lanes.J],
        tally: lanes.Tally,
        renew: Callable[[Stream, Sequence[lanes.J]], Sequence[lanes.J]],
        progress: Progress,
    ) -> None:
        progress(tally.done, tally.total)
        if jobs:
            lanes.run(
                self._pool,
                jobs,
                lanes=min(self._connections, len(jobs)),
                tally=tally,
                patience=self._patience,
                renew=renew,
                progress=progress,
            )
        progress(tally.done, tally.total)

    def done(self, letter: Waiting) -> None:
        target = f"/v1/boxes/{letter.box}/letters/{letter.id}"
        self._pool.call("DELETE", target, expected=(204, 404))

    # ------------------------------------------------------------------ the notice board

    def publish(self, box: str, letter: bytes) -> None:
        """Raises RolledBack if somebody else's update would be lost."""
        self._board.publish(box, letter, recipient=self._recipient(box))

    def lookup(self, box: str) -> bytes | None:
        return self._board.lookup(box)

    def close(self) -> None:
        self._pool.close()

    def _recipient(self, box: str) -> str:
        try:
            return self._recipients[box]
        except KeyError:
            raise CountersealError(
                "this box is none of ours with a partner", hint="is the partner's card pinned?"
            ) from None


def _time_to_sync(count: int) -> float:
    """Seconds that a mailbox may take until its disk has so many bytes."""
    return 30 + count / (16 * limits.MIB)
