"""The private keys of one identity, one generation per card, and what may be done with them."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from counterseal.crypto import wrap
from counterseal.crypto.agreement import AgreementKey, AgreementSuite
from counterseal.crypto.derive import KEY_BYTES
from counterseal.crypto.signing import SigningKey, SigningSuite
from counterseal.crypto.statement import StatementKey
from counterseal.errors import BadCiphertext, FormatError
from counterseal.wire import canonical, limits
from counterseal.wire.canonical import Hex32, PrivateMessage

if TYPE_CHECKING:
    from collections.abc import Iterable

    from counterseal.crypto.agreement import Opener
    from counterseal.crypto.signing import Signer

__all__ = ["Generation", "KeyRing", "PackedKeys", "generation_of", "pack", "pack_keys", "unpack"]


@dataclass(frozen=True, slots=True, repr=False)
class Generation:
    """The keys behind one card."""

    signing: SigningKey
    agreement: AgreementKey
    statement: StatementKey

    @classmethod
    def create(cls, *, hardware: bool = False) -> Generation:
        """`hardware` takes the P-256 halves that tokens can hold."""
        return cls(
            SigningKey.generate(SigningSuite.P256 if hardware else SigningSuite.ED25519),
            AgreementKey.generate(AgreementSuite.P256 if hardware else AgreementSuite.X25519),
            StatementKey.generate(),
        )


class KeyRing:
    """Signs, opens and protects for one identity."""

    def __init__(self, generations: Iterable[tuple[str, Generation]], store_key: bytes) -> None:
        self._generations = dict(generations)
        self._store_key = store_key

    @classmethod
    def create(cls, card: str, generation: Generation) -> KeyRing:
        return cls([(card, generation)], os.urandom(KEY_BYTES))

    def with_generation(self, card: str, generation: Generation) -> KeyRing:
        return KeyRing([*self._generations.items(), (card, generation)], self._store_key)

    def without(self, cards: Iterable[str]) -> KeyRing:
        """Forget the keys behind some cards: what was sealed to them stays closed."""
        gone = set(cards)
        kept = [(card, keys) for card, keys in self._generations.items() if card not in gone]
        return KeyRing(kept, self._store_key)

    @property
    def cards(self) -> tuple[str, ...]:
        return tuple(self._generations)

    def signer(self, card: str) -> Signer:
        return self._generation(card).signing

    def opener(self, card: str) -> Opener:
        return self._generation(card).agreement

    def sign_statement(self, card: str, message: bytes) -> bytes:
        return self._generation(card).statement.sign(message)

    def statement_public(self, card: str) -> bytes:
        return self._generation(card).statement.public

    def protect(self, secret: bytes, *, label: str) -> bytes:
        """Encrypt a secret for the store of this home."""
        return wrap.protect(secret, key=self._store_key, label=label)

    def unprotect(self, protected: bytes, *, label: str) -> bytes:
        return wrap.unprotect(protected, key=self._store_key, label=label)

    def _generation(self, card: str) -> Generation:
        if card not in self._generations:
            raise BadCiphertext("the private keys of that card are not in this keystore any more")
        return self._generations[card]

    def __repr__(self) -> str:
        return f"<KeyRing of {len(self._generations)}>"


class PackedKeys(PrivateMessage, frozen=True):
    """The private halves behind one card."""

    card: Hex32
    signing_suite: SigningSuite
    signing_classical: bytes
    signing_pq: bytes
    agreement_suite: AgreementSuite
    agreement_classical: bytes
    agreement_pq: bytes
    statement: bytes


class _Packed(PrivateMessage, frozen=True):
    kind: Literal["keyring"]
    format: Literal[1]
    store_key: bytes
    generations: tuple[PackedKeys, ...]


def pack(ring: KeyRing) -> bytes:
    """All private bytes in the clear, for a keystore to encrypt at once. Never write these."""
    keys = ring._generations.items()  # noqa: SLF001 - the other half of KeyRing
    return canonical.encode(
        _Packed(
            kind="keyring",
            format=1,
            store_key=ring._store_key,  # noqa: SLF001
            generations=tuple(pack_keys(card, generation) for card, generation in keys),
        )
    )


def pack_keys(card: str, generation: Generation) -> PackedKeys:
    signing, agreement = generation.signing.seeds(), generation.agreement.seeds()
    return PackedKeys(
        card=card,
        signing_suite=generation.signing.public.suite,
        signing_classical=signing[0],
        signing_pq=signing[1],
        agreement_suite=generation.agreement.public.suite,
        agreement_classical=agreement[0],
        agreement_pq=agreement[1],
        statement=generation.statement.scalar(),
    )


def unpack(packed: bytes) -> KeyRing:
    """The other way; raises FormatError."""
    data = canonical.decode(packed, _Packed, limit=limits.KEYSTORE_BYTES, what="key ring")
    try:
        return _ring(data)
    except ValueError:
        raise FormatError("the key ring holds a private key that is not one") from None


def _ring(data: _Packed) -> KeyRing:
    if len(data.store_key) != KEY_BYTES:
        raise FormatError("the store key has the wrong length")
    return KeyRing([(keys.card, generation_of(keys)) for keys in data.generations], data.store_key)


def generation_of(keys: PackedKeys) -> Generation:
    """Raise ValueError for a private key that is none."""
    return Generation(
        SigningKey(keys.signing_suite, keys.signing_classical, keys.signing_pq),
        AgreementKey(keys.agreement_suite, keys.agreement_classical, keys.agreement_pq),
        StatementKey(keys.statement),
    )
