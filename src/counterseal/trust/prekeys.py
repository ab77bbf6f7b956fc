"""Prekeys: what gives a package forward secrecy while its recipient is offline.

The recipient signs a bundle of public prekeys *for one partner*, keeps the private halves,
and deletes each after the first package sealed to it was opened. Whoever later steals the
recipient's long-term keys finds recorded packages closed. (PQXDH's idea, for files.)

Why one bundle per partner: two partners that spend the same prekey would each make a
package of which only the first can be opened.

When the one-time prekeys are used up (a busy month, or somebody who wants them to be), there
is the *last-resort* prekey: used many times, never spent, replaced every week and deleted two
weeks after that. It protects from then on, and not from the moment of opening.
"""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Annotated, Final, Literal, TypeAlias

import msgspec

from counterseal.crypto.agreement import AgreementKey
from counterseal.crypto.derive import bind
from counterseal.crypto.digest import sha256
from counterseal.errors import ExpiredKey, FormatError, TrustError
from counterseal.trust import signed
from counterseal.trust.card import AgreementPublic
from counterseal.trust.history import CLOCK_SKEW
from counterseal.wire import canonical, limits
from counterseal.wire.canonical import Hex32, Message, Timestamp

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from datetime import datetime

    from counterseal.trust.history import History
    from counterseal.wire.dsse import Envelope

__all__ = [
    "PREKEYS_TYPE",
    "ForwardSecrecy",
    "LastResort",
    "PrekeyBundle",
    "compose",
    "generate",
    "prekey_id",
    "verify",
]

PREKEYS_TYPE: Final = "application/vnd.counterseal.prekeys.v1+json"
LIFETIME: Final = timedelta(days=90)
LATEST_ARRIVAL: Final = timedelta(days=30)  # after expiry; then the private half is deleted
# Made on day 0, replaced on day 7, used by a sender who has not heard of it until day 14,
# deleted on day 21: what a sender holds is always good for another week.
LAST_RESORT_ROTATION: Final = timedelta(days=7)
LAST_RESORT_LIFETIME: Final = timedelta(days=14)
LAST_RESORT_ARRIVAL: Final = timedelta(days=7)

ForwardSecrecy: TypeAlias = Literal["one-time", "last-resort", "none"]


class LastResort(Message, frozen=True):
    """A prekey for any number of packages, not to be sealed to after `expires`."""

    key: AgreementPublic
    expires: Timestamp


class PrekeyBundle(Message, frozen=True):
    """`partner` is the identity of the only sender who may use it."""

    kind: Literal["prekeys"]
    format: Literal[1]
    identity: Hex32
    card: Hex32
    partner: Hex32
    created: Timestamp
    expires: Timestamp
    keys: Annotated[
        tuple[AgreementPublic, ...], msgspec.Meta(min_length=1, max_length=limits.PREKEYS)
    ]
    last_resort: LastResort | None


def prekey_id(public: AgreementPublic) -> str:
    """Names a prekey in the stores of both sides; never on the wire (there: a salted hint)."""
    return sha256(bind("prekey", canonical.encode(public))).hex()


def generate(
    history: History, partner: History, count: int, *, at: datetime
) -> tuple[PrekeyBundle, tuple[AgreementKey, ...]]:
    """Make `count` one-time prekeys for `partner`: the document to sign, and the private halves.

    Without a last-resort prekey: that belongs where somebody replaces it, in a directory.
    """
    if not 1 <= count <= limits.PREKEYS:
        raise ValueError(f"1 to {limits.PREKEYS} prekeys at a time")
    suite = history.current(at=at).card.agreement.suite
    keys = tuple(AgreementKey.generate(suite) for _ in range(count))
    public = [AgreementPublic.of(key.public) for key in keys]
    expires = canonical.timestamp(at) + LIFETIME
    return compose(history, partner, public, at=at, expires=expires), keys


def compose(
    history: History,
    partner: History,
    keys: Iterable[AgreementPublic],
    *,
    at: datetime,
    expires: datetime,
    last_resort: LastResort | None = None,
) -> PrekeyBundle:
    """The document to sign, of public halves whose private ones are kept until `expires`."""
    return PrekeyBundle(
        kind="prekeys",
        format=1,
        identity=history.identity,
        card=history.current(at=at).key_id,
        partner=partner.identity,
        created=canonical.timestamp(at),
        expires=expires,
        keys=tuple(keys),
        last_resort=last_resort,
    )


def verify(envelope: Envelope, *, of: History, to: str, at: datetime) -> PrekeyBundle:
    """Return the bundle if `of` signed it for identity `to` and it is in time."""
    bundle = canonical.decode(
        envelope.payload, PrekeyBundle, limit=limits.PREKEY_BUNDLE_BYTES, what="prekey bundle"
    )
    if bundle.identity != of.identity:
        raise TrustError(f'these prekeys are not of "{of.name}"')
    dated = of.for_signature(bundle.card, made=bundle.created, at=at)
    signed.verify(envelope, PREKEYS_TYPE, by=dated.card.signing.key())
    if bundle.partner != to:
        raise TrustError(
            "these prekeys were made for another partner",
            hint=f'ask "{of.name}" for a bundle made for you: counterseal id prekeys YOUR-NAME',
        )
    if at > bundle.expires or bundle.created > at + CLOCK_SKEW:
        raise ExpiredKey("these prekeys are not in time", hint="ask for a fresh bundle")
    _check_keys(bundle)
    return bundle


def _check_keys(bundle: PrekeyBundle) -> None:
    everything: Sequence[AgreementPublic] = bundle.keys
    if bundle.last_resort is not None:
        # Deleted after one package, the last resort would leave all others closed for ever.
        everything = (*bundle.keys, bundle.last_resort.key)
        if bundle.last_resort.expires > bundle.created + LAST_RESORT_LIFETIME:
            raise FormatError("the last-resort prekey lives too long")
    if len({prekey_id(key) for key in everything}) != len(everything):
        raise FormatError("a prekey bundle names a key twice")
