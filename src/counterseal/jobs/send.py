"""Send a sealed package to a partner, over whatever carries it."""

from __future__ import annotations

import os
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

from counterseal.errors import ExpiredKey, TrustError
from counterseal.exchange import letter as letters
from counterseal.exchange import stanza
from counterseal.exchange.boxes import box
from counterseal.exchange.outbox import Outbox, Posted
from counterseal.exchange.receipt import notice_digest
from counterseal.exchange.shipment import Outgoing
from counterseal.exchange.transports import silent
from counterseal.jobs.contact import letter_lifetime, letter_prekey
from counterseal.jobs.open import read_package_front
from counterseal.ledger.entry import Record
from counterseal.wire import canonical

if TYPE_CHECKING:
    from collections.abc import Callable

    from counterseal.exchange.reader import Front
    from counterseal.exchange.transports import Progress, Transport
    from counterseal.jobs.journal import Writes
    from counterseal.trust.identity import Identity
    from counterseal.trust.partner import Partner

__all__ = ["Sent", "send"]


@dataclass(frozen=True, slots=True)
class Sent:
    """What was handed over. `continued`: with the letter of an earlier, unfinished attempt."""

    letter: str
    file: str
    package: str
    to: str
    bytes: int
    blocks: int
    continued: bool


def send(
    package: Path | str,
    *,
    by: Identity,
    to: Partner,
    via: Transport,
    at: datetime | None = None,
    progress: Progress = silent,
    listing: Callable[[int, int], None] | None = None,
    ledger: Writes | None = None,
) -> Sent:
    """Carry a package that we sealed for `to`; an interrupted one goes on where it stopped.

    Returns when the transport holds all of it (folder, mailbox) or the receiver does (broker).
    `progress` sees bytes carried, `listing` bytes read to name the blocks. Raises TrustError if
    the package is not for this partner or not in force, BadSignature if it is not ours, Dropped
    or TimedOut when the way is lost: repeat the call.
    """
    at = at or datetime.now(UTC)
    path = Path(package)
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        front = read_package_front(path, descriptor)
        _check_sender(front, by, at)
        _check_recipient(front, to)
        fresh = Outgoing.of(path, descriptor, front=front, progress=listing)
        outbox = Outbox(by)
        continued = outbox.resume(fresh, to=to.history, at=at)
        if continued is not None:
            identifier, data, outgoing = continued
        else:
            outgoing = fresh
            body = canonical.encode(outgoing.notice)
            prekey = letter_prekey(to, by=by, at=at)
            letter, data = letters.write(
                "shipment",
                body,
                by=by,
                to=to.history,
                at=at,
                prekey=prekey,
                lifetime=letter_lifetime(to, prekey, at=at),
            )
            identifier = letter.id
            outbox.keep(outgoing, letter=letter, data=data, to=to.history, at=at)
        sent = Sent(
            letter=identifier,
            file=outgoing.notice.file,
            package=outgoing.notice.package,
            to=to.name,
            bytes=outgoing.total,
            blocks=len(outgoing.names),
            continued=continued is not None,
        )
        outbox.sending(_record(sent, outgoing, to, at))
        via.deliver(box(by.history.identity, to.identity), data, outgoing, progress=progress)
    finally:
        os.close(descriptor)
    outbox.posted(identifier, at=at)
    if ledger is not None:
        us = by.history.identity
        done = Record(event="sent", actor=us, partner=to.identity, package=sent.package)
        ledger.record_all([done])
    return sent


def _check_sender(front: Front, by: Identity, at: datetime) -> None:
    """As the receiver will: better said here than after a journey."""
    try:
        front.verify(by.history, at=at)
    except ExpiredKey as error:
        raise ExpiredKey(error.message, hint="seal the model again") from error


def _check_recipient(front: Front, to: Partner) -> None:
    hints = {s.hint for s in front.parse_stanzas() if isinstance(s, stanza.KeyStanza)}
    package = front.header.core.package
    usable = [dated.key_id for dated in to.history.cards if dated.revoked is None]
    if not any(stanza.hint(package, card) in hints for card in usable):
        raise TrustError(
            f'this package is not sealed for "{to.name}"',
            hint=f"counterseal seal --add-to PACKAGE --to {to.name}",
        )


def _record(sent: Sent, outgoing: Outgoing, to: Partner, at: datetime) -> Posted:
    return Posted(
        letter=sent.letter,
        partner=to.identity,
        file=sent.file,
        package=sent.package,
        notice=notice_digest(canonical.encode(outgoing.notice)),
        bytes=sent.bytes,
        at=canonical.timestamp(at),
        confirmed=None,
        state="sending",
    )
