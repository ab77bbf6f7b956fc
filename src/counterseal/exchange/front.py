"""The front of a package: signed header, stanzas, zeros up to the body."""

from __future__ import annotations

from typing import TYPE_CHECKING

from counterseal.crypto.digest import sha256
from counterseal.errors import FormatError
from counterseal.exchange import header as headers
from counterseal.exchange import layout, stanza
from counterseal.exchange.header import PACKAGE_TYPE, Core, Header
from counterseal.exchange.plan import ForKeys, ForPassphrase
from counterseal.wire import canonical, limits

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime

    from counterseal.exchange.keys import ContentKey
    from counterseal.trust.identity import Identity

__all__ = ["build", "make_stanzas", "stanza_bytes"]


def build(
    core: Core,
    stanzas: bytes,
    *,
    recipients: int,
    body: int,
    size: int,
    by: Identity,
    at: datetime,
) -> tuple[Header, bytes]:
    """The first `body` bytes of a package of `size` bytes, signed with the keys of `by`."""
    header = Header(
        core=core,
        card=by.current(at=at).key_id,
        recipients=recipients,
        stanzas=sha256(stanzas).hex(),
        body=body,
        size=size,
    )
    envelope = canonical.encode(by.sign(header, PACKAGE_TYPE, at=at))
    headers.parse(envelope)  # what a reader would refuse (a charter with a space) is not written
    lengths = layout.Lengths(len(envelope), len(stanzas))
    if lengths.end > body:
        raise ValueError("the header and stanzas do not fit before the body")
    data = layout.fixed(lengths) + envelope + stanzas
    return header, data + bytes(body - len(data))


def make_stanzas(
    content: ContentKey, core: Core, recipients: Sequence[ForKeys] | ForPassphrase
) -> list[stanza.Stanza]:
    if isinstance(recipients, ForPassphrase):
        secret = recipients.passphrase
        return [stanza.PassphraseStanza.seal(content, core, secret, recipients.cost)]
    return [
        stanza.KeyStanza.seal(content, core, card=r.card, to=r.key, prekey=r.prekey)
        for r in recipients
    ]


def stanza_bytes(recipients: Sequence[ForKeys] | ForPassphrase) -> int:
    """How long the stanzas will be; refuses none, too many, or one recipient twice."""
    if isinstance(recipients, ForPassphrase):
        return stanza.PASSPHRASE_STANZA_BYTES
    if not recipients:
        raise FormatError(
            "a package needs at least one recipient", hint="--to PARTNER, or --to-passphrase"
        )
    if len(recipients) > limits.RECIPIENTS:
        raise FormatError(f"more than {limits.RECIPIENTS} recipients")
    if len({recipient.card for recipient in recipients}) != len(recipients):
        raise FormatError("a recipient is named twice")
    return sum(
        stanza.key_stanza_bytes(r.key.suite, prekey=r.prekey is not None) for r in recipients
    )
