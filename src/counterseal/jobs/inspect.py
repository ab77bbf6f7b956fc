"""Say what a file is, and of a package everything that can be known without a key."""

from __future__ import annotations

import os
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Final

from counterseal.errors import CountersealError, FormatError
from counterseal.exchange.layout import MAGIC
from counterseal.exchange.stanza import KeyStanza
from counterseal.jobs.open import read_package_front
from counterseal.trust.card import CardDocument
from counterseal.trust.history import History
from counterseal.wire import limits

if TYPE_CHECKING:
    from collections.abc import Sequence

    from counterseal.trust.partner import Partner

_OTHERS: Final = {
    b'"kind":"keystore"': "a keystore: encrypted private keys, which nobody else should have",
    b'"kind":"token-keystore"': "a keystore: half of private keys, of which a token has the rest",
    b'"kind":"backup"': "an encrypted backup (counterseal id restore)",
    b'"kind":"recovery-key"': "an encrypted recovery key (counterseal id recover)",
    b'"payloadType":"application/vnd.counterseal.prekeys.v1+json"': "a bundle of prekeys "
    "(counterseal partner refresh)",
}

__all__ = ["CardFacts", "PackageFacts", "card_facts", "inspect"]


@dataclass(frozen=True, slots=True)
class PackageFacts:
    """`signature` is "good (NAME)", "not checked: ..." or why it was refused."""

    package: str
    sender: str
    sender_card: str
    created: datetime
    expires: datetime | None
    charter: str | None
    recipients: int
    kinds: tuple[str, ...]
    forward_secret: int
    size: int
    signature: str
    trusted: bool


@dataclass(frozen=True, slots=True)
class CardFacts:
    """A card file. Compare `key_id` with what its owner reads aloud before trusting it."""

    name: str
    identity: str
    key_id: str
    serial: int
    created: datetime
    expires: datetime
    revoked: bool
    suite: str
    recovery: str


def inspect(
    path: Path | str, *, partners: Sequence[Partner] = (), at: datetime | None = None
) -> PackageFacts | CardFacts:
    """Look at a package or card. With `partners` the signature of a package is checked too.

    Raises FormatError for anything else, and for a package that is cut or malformed.
    """
    at = at or datetime.now(UTC)
    path = Path(path)
    with path.open("rb") as file:
        head = file.read(1)
    if head == b"{":
        return _card(path)
    if head != MAGIC[:1]:
        raise FormatError("this is neither a sealed package nor a card")
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        front = read_package_front(path, descriptor)
        stanzas = front.parse_stanzas()
    finally:
        os.close(descriptor)
    core = front.header.core
    signature, trusted = "not checked: no card of this sender is pinned", False
    for partner in partners:
        if partner.identity == core.sender:
            try:
                front.verify(partner.history, at=at)
            except CountersealError as error:
                signature = f"refused: {error.message}"
            else:
                signature, trusted = f"good ({partner.name})", True
    kinds = {
        s.suite.value if isinstance(s, KeyStanza) else "passphrase (Argon2id)" for s in stanzas
    }
    return PackageFacts(
        package=core.package,
        sender=core.sender,
        sender_card=front.header.card,
        created=core.created,
        expires=core.expires,
        charter=core.charter,
        recipients=len(stanzas),
        kinds=tuple(sorted(kinds)),
        forward_secret=sum(s.forward_secret for s in stanzas),
        size=front.header.size,
        signature=signature,
        trusted=trusted,
    )


def _card(path: Path) -> CardFacts:
    if path.stat().st_size > limits.CARD_DOCUMENT_BYTES:
        raise FormatError("this is neither a sealed package nor a card")
    data = path.read_bytes()
    for kind, what in _OTHERS.items():
        if kind in data:
            raise FormatError(
                f"this is {what}", hint="counterseal inspect reads packages and cards"
            )
    return card_facts(History.verify(CardDocument.parse(data)))


def card_facts(history: History) -> CardFacts:
    """The facts of a verified history's newest card."""
    newest = history.newest
    recovery = newest.card.recovery
    return CardFacts(
        name=history.name,
        identity=history.identity,
        key_id=newest.key_id,
        serial=newest.card.serial,
        created=newest.card.created,
        expires=newest.card.expires,
        revoked=newest.revoked is not None,
        suite=f"{newest.card.signing.suite}, {newest.card.agreement.suite}",
        recovery=f"{recovery.threshold} of {len(recovery.keys)}" if recovery.keys else "none",
    )
