"""The online key: it says "this is still the newest", and nothing else.

Timestamps end after a week, so some machine must renew them. It holds this key and not the
identity's: who breaks into it can hold news back for as long as the targets live (30 days),
and can name no card, no prekey and no address. Each card has an online key of its own.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, Literal

from counterseal.crypto.signing import SigningKey, SigningSuite
from counterseal.errors import FormatError
from counterseal.trust.keystores import file as keystore_file
from counterseal.wire import canonical, limits
from counterseal.wire.canonical import PrivateMessage

if TYPE_CHECKING:
    from counterseal.trust.identity import Identity

__all__ = ["load", "of", "save"]

_KIND: Final = "directory-online"


class _OnlineKey(PrivateMessage, frozen=True):
    kind: Literal["online-key"]
    format: Literal[1]
    suite: SigningSuite
    classical: bytes
    pq: bytes


def of(identity: Identity, *, renew: bool = False) -> SigningKey:
    """The online key of our newest card; made when there is none, or to `renew` a stolen one.

    Call inside `store.exclusive()`.
    """
    place = f"{identity.history.identity}/{identity.key_id}"
    protected = identity.store.get(_KIND, place)
    if protected is not None and not renew:
        return _unpack(identity.unprotect(protected, label=_KIND))
    key = SigningKey.generate()
    for old, _ in identity.store.items(_KIND):
        if old.startswith(f"{identity.history.identity}/"):
            identity.store.delete(_KIND, old)
    identity.store.put(_KIND, place, identity.protect(_pack(key), label=_KIND))
    return key


def save(identity: Identity, passphrase: bytes) -> bytes:
    """The online key for another machine, encrypted under a passphrase of its own."""
    with identity.store.exclusive():
        key = of(identity)
    return keystore_file.encrypt(_pack(key), passphrase, kind="online-key")


def load(data: bytes, passphrase: bytes) -> SigningKey:
    return _unpack(keystore_file.decrypt(data, passphrase, kind="online-key"))


def _pack(key: SigningKey) -> bytes:
    classical, pq = key.seeds()
    return canonical.encode(
        _OnlineKey(kind="online-key", format=1, suite=key.public.suite, classical=classical, pq=pq)
    )


def _unpack(secret: bytes) -> SigningKey:
    key = canonical.decode(secret, _OnlineKey, limit=limits.KEYSTORE_BYTES, what="online key")
    try:
        return SigningKey(key.suite, key.classical, key.pq)
    except ValueError:
        raise FormatError("the online key is not a private key") from None
