"""Seal a message of any kind for one partner, so that a relay learns only its padded length.

    magic 8 | type 1 | salt 16 | hint 16 | [prekey hint 16] | share 1 | [share 2] | body

Share 1 is sealed to the recipient's card, share 2, if there is one, to their last-resort or a
one-time prekey: then whoever later steals the card's keys still reads nothing (SPEC 12.2). Who
wrote it is signed inside: see `letter`.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Final

from counterseal.crypto import wrap
from counterseal.crypto.agreement import AgreementSuite
from counterseal.crypto.derive import KEY_BYTES, bind, derive_from_shares
from counterseal.crypto.digest import equal, sha256
from counterseal.errors import BadCiphertext, FormatError, UnknownVersion
from counterseal.wire import limits

if TYPE_CHECKING:
    from counterseal.crypto.agreement import Opener, SealKey
    from counterseal.trust.history import DatedCard
    from counterseal.trust.identity import Identity

__all__ = ["open_sealed_message", "seal_message"]

MAGIC: Final = b"\x89cslet\x01\n"
SALT_BYTES: Final = 16
HINT_BYTES: Final = 16
LENGTH_BYTES: Final = 4
PAD_TO: Final = 16 * limits.KIB  # a receipt, a notice and a prekey request look alike

_SUITES: Final = (AgreementSuite.X25519, AgreementSuite.P256)
_LABEL: Final = "letter"
_FAILED: Final = "this letter was not sealed for us, or was changed"


def seal_message(message: bytes, *, to: DatedCard, prekey: tuple[str, SealKey] | None) -> bytes:
    """Seal for the holder of a card in force; `prekey` is (prekey id, public key) of theirs."""
    if len(message) > limits.LETTER_BYTES - limits.LETTER_ROOM:
        raise FormatError("the letter is too long")
    key = to.card.agreement.key()
    salt = os.urandom(SALT_BYTES)
    prekey_id = "" if prekey is None else prekey[0]
    info = _info(salt, to.key_id, prekey_id)
    shares = [os.urandom(KEY_BYTES) for _ in range(1 if prekey is None else 2)]
    parts = [
        MAGIC,
        bytes([_SUITES.index(key.suite) * 2 + (prekey is not None)]),
        salt,
        _hint("letter hint", salt, to.key_id),
    ]
    if prekey is not None:
        if prekey[1].suite is not key.suite:
            raise FormatError("a prekey of another suite than its owner's card")
        parts.append(_hint("letter prekey hint", salt, prekey_id))
    parts.append(key.seal(shares[0], info=info))
    if prekey is not None:
        parts.append(prekey[1].seal(shares[1], info=info))
    kek = _kek(b"".join(shares), salt, to.key_id, prekey_id)
    return b"".join(parts) + wrap.protect(_pad(message), key=kek, label=_LABEL)


def open_sealed_message(data: bytes, *, by: Identity, partner: str) -> bytes:
    """Open a message from the box of `partner` (their identity); who wrote it is not checked here.

    Raises BadCiphertext for another's or a changed one, FormatError, UnknownVersion.
    """
    if len(data) > limits.LETTER_BYTES:
        raise FormatError("the letter is too long")
    if data[: len(MAGIC)] != MAGIC:
        if data[:6] == MAGIC[:6]:
            raise UnknownVersion("a letter of a newer version")
        raise FormatError("this is not a letter")
    take = _Taker(data[len(MAGIC) :])
    number = take(1)[0]
    if number // 2 >= len(_SUITES):
        raise UnknownVersion("a letter of an unknown type")
    suite, with_prekey = _SUITES[number // 2], number % 2 == 1
    salt, card_hint = take(SALT_BYTES), take(HINT_BYTES)
    prekey_hint = take(HINT_BYTES) if with_prekey else b""
    sealed = [take(suite.sealed_bytes(KEY_BYTES)) for _ in range(1 + with_prekey)]
    card, opener = _find(by, salt, card_hint)
    prekey_id, openers = "", [opener]
    if with_prekey:
        prekey_id, half = _find_prekey(by, salt, prekey_hint, partner)
        openers.append(half)
    info = _info(salt, card, prekey_id)
    shares = [one.open(share, info=info) for one, share in zip(openers, sealed, strict=True)]
    kek = _kek(b"".join(shares), salt, card, prekey_id)
    try:
        padded = wrap.unprotect(take.rest(), key=kek, label=_LABEL)
    except BadCiphertext:
        raise BadCiphertext(_FAILED) from None
    return _unpad(padded)


class _Taker:
    def __init__(self, data: bytes) -> None:
        self._data, self._at = data, 0

    def __call__(self, count: int) -> bytes:
        piece = self._data[self._at : self._at + count]
        if len(piece) != count:
            raise FormatError("a letter is cut short")
        self._at += count
        return piece

    def rest(self) -> bytes:
        return self._data[self._at :]


def _find(by: Identity, salt: bytes, hint: bytes) -> tuple[str, Opener]:
    for card, opener in by.openers():
        if equal(_hint("letter hint", salt, card), hint):
            return card, opener
    raise BadCiphertext(_FAILED)


def _find_prekey(by: Identity, salt: bytes, hint: bytes, partner: str) -> tuple[str, Opener]:
    for identifier in by.prekeys.ids():
        if equal(_hint("letter prekey hint", salt, identifier), hint):
            opener = by.prekeys.opener(identifier, partner=partner)
            if opener is not None:
                return identifier, opener
    raise BadCiphertext("the prekey this letter was sealed with is not here any more")


def _pad(message: bytes) -> bytes:
    padded = LENGTH_BYTES + len(message)
    return len(message).to_bytes(LENGTH_BYTES, "big") + message + bytes(-padded % PAD_TO)


def _unpad(padded: bytes) -> bytes:
    length = int.from_bytes(padded[:LENGTH_BYTES], "big")
    message = padded[LENGTH_BYTES:][:length]
    if _pad(message) != padded:  # one form, so that nothing hides in it
        raise FormatError("a letter is filled up wrongly")
    return message


def _hint(label: str, salt: bytes, identifier: str) -> bytes:
    return sha256(bind(label, salt, bytes.fromhex(identifier)))[:HINT_BYTES]


def _info(salt: bytes, card: str, prekey_id: str) -> bytes:
    return bind("letter share", salt, bytes.fromhex(card), bytes.fromhex(prekey_id))


def _kek(shares: bytes, salt: bytes, card: str, prekey_id: str) -> bytes:
    parts = bytes.fromhex(card), bytes.fromhex(prekey_id)
    return derive_from_shares(shares, "letter key", *parts, salt=salt)
