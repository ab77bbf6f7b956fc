"""A key ring whose P-256 halves are in a token: what of it can be written down, and back."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Literal

from counterseal.crypto import p256
from counterseal.crypto.agreement import AgreementKey, AgreementSuite
from counterseal.crypto.derive import KEY_BYTES
from counterseal.crypto.signing import SigningKey, SigningSuite
from counterseal.crypto.statement import StatementKey
from counterseal.errors import FormatError, TrustError
from counterseal.trust.keystores import keyring
from counterseal.trust.keystores.keyring import Generation, KeyRing, PackedKeys
from counterseal.wire import canonical, limits
from counterseal.wire.canonical import Hex32, Message, PrivateMessage

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from counterseal.trust.keystores import Token

__all__ = [
    "KIND",
    "PackedRing",
    "TokenHalf",
    "handles",
    "pack",
    "prove",
    "read",
    "token_of",
    "unpack",
]

KIND: Final = "token-keyring"
_NONE: Final[Mapping[bytes, bytes]] = {}


@dataclass(frozen=True, slots=True, repr=False)
class TokenHalf:
    """The P-256 half of a key: it answers, and is never seen."""

    token: Token
    handle: bytes
    public: bytes

    def sign(self, digest: bytes) -> bytes:
        return self.token.sign(self.handle, digest)

    def exchange(self, point: bytes) -> bytes:
        return self.token.exchange(self.handle, point)


def handles(ring: KeyRing) -> frozenset[bytes]:
    """Of every key of the ring that is in a token."""
    return frozenset(half.handle for _, keys in _items(ring) for half in _halves(keys))


def token_of(ring: KeyRing) -> Token | None:
    """The token that some of its keys are in."""
    return next((half.token for _, keys in _items(ring) for half in _halves(keys)), None)


def prove(generation: Generation) -> None:
    """Raise TrustError unless the token answers with the keys that we publish as ours."""
    signing, agreement, statement = (
        generation.signing.outside,
        generation.agreement.outside,
        generation.statement.outside,
    )
    if signing is not None and agreement is not None and statement is not None:
        p256.check_signer(signing)
        p256.check_signer(statement)
        p256.check_agreement(agreement)


class PackedHalf(Message, frozen=True):
    handle: bytes
    public: bytes


class PackedOutside(PrivateMessage, frozen=True):
    """The keys behind one card, without their P-256 halves."""

    card: Hex32
    signing: PackedHalf
    signing_pq: bytes
    agreement: PackedHalf
    agreement_pq: bytes
    statement: PackedHalf


class PackedRing(PrivateMessage, frozen=True):
    """`earlier`: keys from before the identity moved into the token. `stale`: to be destroyed."""

    kind: Literal["token-keyring"]
    format: Literal[1]
    token: str
    serial: str
    store_key: bytes
    earlier: tuple[PackedKeys, ...]
    generations: tuple[PackedOutside, ...]
    stale: tuple[bytes, ...]


def pack(
    ring: KeyRing,
    token: Token,
    *,
    stale: Iterable[bytes] = (),
    changed: Mapping[bytes, bytes] = _NONE,
) -> bytes:
    """What a token cannot hold, in the clear, to be encrypted at once. Never write these.

    `changed`: new handles that take the place of old ones.
    """
    earlier, outside = [], []
    for card, keys in _items(ring):
        halves = [
            PackedHalf(handle=changed.get(half.handle, half.handle), public=half.public)
            for half in _halves(keys)
        ]
        if not halves:
            earlier.append(keyring.pack_keys(card, keys))
            continue
        signing, agreement, statement = halves
        outside.append(
            PackedOutside(
                card=card,
                signing=signing,
                signing_pq=keys.signing.pq_seed(),
                agreement=agreement,
                agreement_pq=keys.agreement.pq_seed(),
                statement=statement,
            )
        )
    return canonical.encode(
        PackedRing(
            kind=KIND,
            format=1,
            token=str(token.uri),
            serial=token.serial,
            store_key=ring._store_key,  # noqa: SLF001 - keystores take rings apart
            earlier=tuple(earlier),
            generations=tuple(outside),
            stale=tuple(sorted(stale)),
        )
    )


def read(packed: bytes) -> PackedRing:
    return canonical.decode(packed, PackedRing, limit=limits.KEYSTORE_BYTES, what="key ring")


def unpack(data: PackedRing, token: Token) -> KeyRing:
    """The other way, with the token that the ring was made with; raises FormatError."""
    if data.serial != token.serial:
        raise TrustError(
            "these keys are in another token",
            hint=f"the one with the serial number {data.serial[:32]}",
        )
    if len(data.store_key) != KEY_BYTES:
        raise FormatError("the store key has the wrong length")

    def half(one: PackedHalf) -> TokenHalf:
        return TokenHalf(token, one.handle, one.public)

    def generation(keys: PackedOutside) -> Generation:
        return Generation(
            SigningKey(SigningSuite.P256, half(keys.signing), keys.signing_pq),
            AgreementKey(AgreementSuite.P256, half(keys.agreement), keys.agreement_pq),
            StatementKey(half(keys.statement)),
        )

    try:
        earlier = [(keys.card, keyring.generation_of(keys)) for keys in data.earlier]
        outside = [(keys.card, generation(keys)) for keys in data.generations]
    except ValueError:
        raise FormatError("the key ring holds a private key that is not one") from None
    return KeyRing([*earlier, *outside], data.store_key)


def _items(ring: KeyRing) -> Iterable[tuple[str, Generation]]:
    return ring._generations.items()  # noqa: SLF001 - keystores take rings apart


def _halves(keys: Generation) -> Iterator[TokenHalf]:
    """Signing, agreement, statement; nothing for keys in memory."""
    for half in (keys.signing.outside, keys.agreement.outside, keys.statement.outside):
        if isinstance(half, TokenHalf):
            yield half
