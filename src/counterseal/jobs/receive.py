"""Receive packages and receipts. Nothing appears until it is whole and verified.

For each letter that waits in the box of one of our partners:
1. It is read by the rules of `letter`. One that was processed before is answered again and
   taken away; one that is not genuine or has ended is taken away; one whose sender's card we do
   not know yet, or no longer trust, stays, and so does one of a newer version.
2. A receipt is noted. A shipment's blocks are fetched into a hidden file. What goes wrong on
   the way (a block missing or changed, no room here) is no fault of the letter: it stays.
3. When all are there: the header is the sender's and in force, the package is sealed for us,
   and it is the one the notice names. Then it gets its name.
4. The receipt goes back, the letter's id is remembered, the transport may forget it.
After a crash between any two of these steps the next call goes on from there. No letter keeps
the ones behind it waiting: a partner could stop all others with one that never comes whole.
"""

from __future__ import annotations

import contextlib
import os
import time
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from counterseal.crypto.digest import equal, sha256_stream
from counterseal.errors import (
    Aborted,
    BadCiphertext,
    BadSignature,
    CountersealError,
    Dropped,
    ExpiredKey,
    FormatError,
    ReplayedMessage,
    TamperError,
    TimedOut,
    TrustError,
    UnknownVersion,
)
from counterseal.exchange import letter as letters
from counterseal.exchange import reader, stanza, workers
from counterseal.exchange.boxes import box
from counterseal.exchange.hidden import sweep
from counterseal.exchange.incoming import Incoming
from counterseal.exchange.letter import Ended, LetterBook
from counterseal.exchange.outbox import Outbox
from counterseal.exchange.payload import pread_exactly
from counterseal.exchange.receipt import Receipt
from counterseal.exchange.shipment import Notice, digests
from counterseal.exchange.transports import NoBlocks, Whole, silent
from counterseal.jobs.arrivals import Arrived, Confirmed, Event, Refused, records_of
from counterseal.jobs.contact import letter_lifetime, letter_prekey
from counterseal.wire import canonical

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from pathlib import Path

    from counterseal.exchange.header import Header
    from counterseal.exchange.letter import Letter
    from counterseal.exchange.transports import Progress, Transport, Waiting
    from counterseal.jobs.journal import Writes
    from counterseal.trust.identity import Identity
    from counterseal.trust.partner import Partner

__all__ = ["Arrived", "Confirmed", "Event", "Refused", "await_receipt", "listen", "receive"]


def receive(
    folder: Path,
    *,
    by: Identity,
    partners: Sequence[Partner],
    via: Transport,
    wait: float = 0.0,
    now: Callable[[], datetime] = lambda: datetime.now(UTC),
    progress: Progress = silent,
    ledger: Writes | None = None,
) -> Iterator[Event]:
    """Process what waits; if nothing does, wait up to `wait` seconds for something.

    Raises Dropped or TimedOut when the way is lost; what arrived is kept for the next call.
    `ledger` has an entry for what arrived, was confirmed, or was refused and taken away.
    Letters that stay come again with every call: a caller that follows must pause in between.
    """
    sweep(folder, at=now())
    us = by.history.identity
    senders = {box(partner.identity, us): partner for partner in partners}
    for waiting in via.waiting(list(senders), wait=wait):
        sender = senders.get(waiting.box)
        if sender is None:
            continue
        for event in _process(waiting, sender, folder, by=by, via=via, at=now(), progress=progress):
            if ledger is not None:
                ledger.record_all(records_of(event, sender, by))
            yield event


def listen(*, by: Identity, to: Partner, via: Transport) -> None:
    """Begin to hear letters of `to`, before sending what they will answer; nothing is processed."""
    for _ in via.waiting([box(to.identity, by.history.identity)], wait=0.0):
        pass


def await_receipt(
    letter: str,
    *,
    by: Identity,
    of: Partner,
    via: Transport,
    wait: float,
    now: Callable[[], datetime] = lambda: datetime.now(UTC),
    clock: Callable[[], float] = time.monotonic,
    sleep: Callable[[float], None] = time.sleep,
) -> datetime:
    """When the partner had the shipment whole; raises TimedOut if no receipt comes in time.

    Only receipts are processed; whatever else waits in the box stays there.
    """
    deadline = clock() + wait
    place = box(of.identity, by.history.identity)
    book, outbox = LetterBook(by.store, owner=by.history.identity), Outbox(by)
    while True:
        posted = outbox.get(letter)
        if posted is not None and posted.confirmed is not None:
            return posted.confirmed
        left = deadline - clock()
        if left <= 0:
            raise TimedOut(
                f'no receipt of "{of.name}" yet',
                hint="the shipment waits for them; counterseal receive takes receipts later",
            )
        others = 0
        for waiting in via.waiting([place], wait=min(left, 25.0)):
            try:
                message = letters.read(waiting.data, by=by, sender=of.history, at=now())
                if message.type != "receipt":
                    others += 1
                    continue
                book.check(message)
                _confirm(message, of, by)
                book.commit(message, at=now())
            except (TamperError, FormatError):
                pass  # a replayed, forged or foreign one
            except TrustError:
                others += 1
                continue
            via.done(waiting)
        if others:  # what stays would otherwise be looked at without a pause
            sleep(min(1.0, max(0.0, deadline - clock())))


def _process(
    waiting: Waiting,
    sender: Partner,
    folder: Path,
    *,
    by: Identity,
    via: Transport,
    at: datetime,
    progress: Progress,
) -> Iterator[Event]:
    try:
        letter = letters.read(waiting.data, by=by, sender=sender.history, at=at)
        event = _accept(letter, waiting, sender, folder, by=by, via=via, at=at, progress=progress)
    except (TamperError, FormatError, Ended) as error:
        upgrade = isinstance(error, UnknownVersion)
        yield Refused(sender.name, error, removed=not upgrade and _take_away(waiting, via))
        return
    except CountersealError as error:
        yield Refused(sender.name, error, removed=False)
        return
    if event is not None:
        yield event


def _accept(
    letter: Letter,
    waiting: Waiting,
    sender: Partner,
    folder: Path,
    *,
    by: Identity,
    via: Transport,
    at: datetime,
    progress: Progress,
) -> Arrived | Confirmed | None:
    """None for a letter that was processed before, also by another command just now."""
    book = LetterBook(by.store, owner=by.history.identity)
    try:
        book.check(letter)
        event = _act(letter, waiting, sender, folder, by=by, via=via, at=at, progress=progress)
        book.commit(letter, at=at)
    except ReplayedMessage:
        if _answer_again(letter, sender, by=by, via=via, at=at):
            if letter.type == "shipment":
                with contextlib.suppress(CountersealError):
                    via.fetch(waiting, Whole(Notice.parse(letter.body).secret))
            _take_away(waiting, via)
        return None
    if not isinstance(event, Arrived) or event.receipt_sent:
        _take_away(waiting, via)
    return event


def _take_away(waiting: Waiting, via: Transport) -> bool:
    """False if that fails: then it comes again, and is known by its id or refused again."""
    try:
        via.done(waiting)
    except CountersealError:
        return False
    return True


def _act(
    letter: Letter,
    waiting: Waiting,
    sender: Partner,
    folder: Path,
    *,
    by: Identity,
    via: Transport,
    at: datetime,
    progress: Progress,
) -> Arrived | Confirmed:
    if letter.type == "receipt":
        return _confirm(letter, sender, by)
    if letter.type == "shipment":
        return _take(letter, waiting, sender, folder, by=by, via=via, at=at, progress=progress)
    raise FormatError(f'"{sender.name}" sent a {letter.type}, which nobody here waits for')


def _confirm(letter: Letter, sender: Partner, by: Identity) -> Confirmed:
    receipt = Receipt.parse(letter.body)
    posted = Outbox(by).confirm(receipt, partner=sender.identity)
    if posted is None:
        raise BadSignature(f'"{sender.name}" confirms what was not sent to them')
    return Confirmed(sender.name, posted.file, posted.package, receipt.at)


def _take(
    letter: Letter,
    waiting: Waiting,
    sender: Partner,
    folder: Path,
    *,
    by: Identity,
    via: Transport,
    at: datetime,
    progress: Progress,
) -> Arrived:
    notice = Notice.parse(letter.body)

    def verify(descriptor: int) -> None:
        _verify(descriptor, notice, sender, by=by, at=at)

    output = _place(folder, notice, verify)
    kept = total = notice.size
    if not os.path.lexists(output):
        with Incoming(notice, output, sender=sender.identity) as incoming:
            kept, total = incoming.kept, incoming.total
            _fetch(waiting, incoming, sender, via=via, progress=progress)
            incoming.finish(verify)
    sent = _send_receipt(letter, notice, sender, by=by, via=via, at=at)
    return Arrived(sender.name, output, notice.package, total, kept, sent)


def _fetch(
    waiting: Waiting, incoming: Incoming, sender: Partner, *, via: Transport, progress: Progress
) -> None:
    again = f'ask "{sender.name}" to send it again: what arrived is kept'
    try:
        via.fetch(waiting, incoming, progress=progress)
    except (TamperError, FormatError) as error:
        # Not the letter's fault: taken for one, whoever carries blocks could have it deleted.
        raise Aborted(error.message, party="transport", check="block", hint=again) from error
    if incoming.missing():
        raise Dropped("not every block of this shipment came", hint=again)


def _place(folder: Path, notice: Notice, verify: Callable[[int], None]) -> Path:
    """A free name, or the file that holds this very package already."""
    stem, dot, ending = notice.file.rpartition(".")
    for number in range(1, 1000):
        numbered = f"{stem}-{number}{dot}{ending}" if dot else f"{notice.file}-{number}"
        path = folder / (notice.file if number == 1 else numbered)
        if not os.path.lexists(path) or _is_that(path, notice, verify):
            return path
    raise CountersealError(f"{folder} holds too many files named {notice.file}")


def _is_that(path: Path, notice: Notice, verify: Callable[[int], None]) -> bool:
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK)
    except OSError:
        return False
    try:
        if os.fstat(descriptor).st_size != notice.size:
            return False
        verify(descriptor)
        return digests(descriptor, notice.plan.blocks) == notice.blocks
    except (CountersealError, OSError):
        return False
    finally:
        os.close(descriptor)


def _verify(
    descriptor: int, notice: Notice, sender: Partner, *, by: Identity, at: datetime
) -> None:
    """Rule 3."""
    front = reader.read_front(descriptor)
    header = front.header
    try:
        header.core.check_time(at=at)
    except ExpiredKey as error:
        raise Ended(error.message, hint=error.hint) from error
    front.verify(sender.history, at=at)
    if (header.core.package, header.body) != (notice.package, notice.body):
        raise FormatError("the package is not the one the notice names")
    hints = {s.hint for s in front.parse_stanzas() if isinstance(s, stanza.KeyStanza)}
    ours = (stanza.hint(notice.package, card) for card, _ in by.openers())
    if not any(hint in hints for hint in ours):
        raise FormatError(f'"{sender.name}" sent a package that is not sealed for us')
    if not equal(_manifest_digest(descriptor, header), header.core.manifest.encode()):
        raise BadCiphertext("the package has the front of one and the body of another")


def _manifest_digest(descriptor: int, header: Header) -> bytes:
    stream, scratch = sha256_stream(), workers.borrow()
    end = header.body + header.core.manifest_bytes
    for at in range(header.body, end, len(scratch.plain)):
        piece = scratch.plain[: end - at]
        pread_exactly(descriptor, piece, at)
        stream.update(piece)
    workers.give_back(scratch)
    return stream.hexdigest().encode()


def _send_receipt(
    letter: Letter, notice: Notice, sender: Partner, *, by: Identity, via: Transport, at: datetime
) -> bool:
    """False if the way back is closed: then the letter stays, and the next call tries again."""
    body = canonical.encode(Receipt.of(letter, notice, at=at))
    try:
        prekey = letter_prekey(sender, by=by, at=at)
        _, data = letters.write(
            "receipt",
            body,
            by=by,
            to=sender.history,
            at=at,
            prekey=prekey,
            lifetime=letter_lifetime(sender, prekey, at=at),
        )
        via.deliver(box(by.history.identity, sender.identity), data, NoBlocks())
    except CountersealError:
        return False
    return True


def _answer_again(
    letter: Letter, sender: Partner, *, by: Identity, via: Transport, at: datetime
) -> bool:
    """A shipment that is here already: its receipt was lost, or the letter came twice."""
    if letter.type != "shipment":
        return True
    return _send_receipt(letter, Notice.parse(letter.body), sender, by=by, via=via, at=at)
