"""Stanzas: the content key, wrapped once for each recipient (SPEC 3.5).

    type 1 byte | hint 16 | [prekey hint 16] | share 1 | [share 2] | wrapped key 48
    type 1 byte | memory u32 | passes u16 | lanes u8 | salt 16 | commitment 32 | wrapped 48

share 1 is sealed to the recipient's identity key, share 2 to a one-time prekey. The wrapping
key needs both: stealing the identity key later does not open the package once the prekey is
deleted, and a stolen prekey alone opens nothing. Everything is bound to the header's core
(sender, manifest, commitment) and to the recipient, so a stanza fits nowhere else.

Hints are salted digests: a recipient finds its stanza at once; somebody without the card
does not learn who the recipients are. A passphrase stanza stands alone: beside others it
would be the weakest of them. All types but that one are hybrid: classical ones do not exist.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from itertools import accumulate, pairwise
from typing import TYPE_CHECKING, Final

from counterseal.crypto import passphrase as passphrases
from counterseal.crypto import wrap
from counterseal.crypto.agreement import AgreementSuite
from counterseal.crypto.derive import KEY_BYTES, bind, derive_from_shares
from counterseal.crypto.digest import sha256
from counterseal.errors import FormatError, UnknownVersion
from counterseal.exchange.keys import ContentKey
from counterseal.wire import limits

if TYPE_CHECKING:
    from collections.abc import Sequence

    from counterseal.crypto.agreement import Opener, SealKey
    from counterseal.exchange.header import Core

__all__ = ["KeyStanza", "PassphraseStanza", "Stanza", "hint", "parse", "prekey_hint"]

HINT_BYTES: Final = 16
_PASSPHRASE: Final = 5
_TYPES: Final = {
    1: (AgreementSuite.X25519, False),
    2: (AgreementSuite.X25519, True),
    3: (AgreementSuite.P256, False),
    4: (AgreementSuite.P256, True),
}
_NUMBERS: Final = {value: number for number, value in _TYPES.items()}


@dataclass(frozen=True, slots=True)
class KeyStanza:
    """For a recipient's keys. `share2` and `prekey_hint` are empty without a prekey."""

    suite: AgreementSuite
    hint: bytes
    prekey_hint: bytes
    share1: bytes
    share2: bytes
    wrapped: bytes

    @classmethod
    def seal(
        cls,
        content: ContentKey,
        core: Core,
        *,
        card: str,
        to: SealKey,
        prekey: tuple[str, SealKey] | None,
    ) -> KeyStanza:
        """`card`: the recipient's key id; `prekey`: (prekey id, public key) if one is at hand."""
        prekey_id = "" if prekey is None else prekey[0]
        info = _info(core, card, prekey_id)
        share1, share2 = os.urandom(KEY_BYTES), b""
        sealed2 = b""
        if prekey is not None:
            if prekey[1].suite is not to.suite:
                raise FormatError("a prekey of another suite than its owner's card")
            share2 = os.urandom(KEY_BYTES)
            sealed2 = prekey[1].seal(share2, info=info)
        return cls(
            suite=to.suite,
            hint=hint(core.package, card),
            prekey_hint=b"" if prekey is None else prekey_hint(core.package, prekey_id),
            share1=to.seal(share1, info=info),
            share2=sealed2,
            wrapped=wrap.wrap_key(
                content.secret(), under=_kek(share1 + share2, core, card, prekey_id)
            ),
        )

    def open(
        self, core: Core, *, card: str, by: Opener, prekey: tuple[str, Opener] | None
    ) -> ContentKey:
        """Raise BadCiphertext unless this was sealed for exactly these keys and this core."""
        prekey_id = "" if prekey is None else prekey[0]
        info = _info(core, card, prekey_id)
        shares = by.open(self.share1, info=info)
        if prekey is not None:
            shares += prekey[1].open(self.share2, info=info)
        key = wrap.unwrap_key(self.wrapped, under=_kek(shares, core, card, prekey_id))
        content = ContentKey(key, core.package)
        content.check(core.commitment)
        return content

    @property
    def forward_secret(self) -> bool:
        return bool(self.share2)

    def encode(self) -> bytes:
        number = _NUMBERS[self.suite, self.forward_secret]
        return bytes([number]) + b"".join(
            (self.hint, self.prekey_hint, self.share1, self.share2, self.wrapped)
        )


@dataclass(frozen=True, slots=True)
class PassphraseStanza:
    """For whoever knows a passphrase. Stands alone."""

    cost: passphrases.Cost
    wrapped: bytes

    @classmethod
    def seal(
        cls, content: ContentKey, core: Core, passphrase: bytes, cost: passphrases.Cost
    ) -> PassphraseStanza:
        context = bind("passphrase stanza", core.digest())
        wrapped = passphrases.wrap(content.secret(), passphrase, context=context, cost=cost)
        return cls(cost, wrapped)

    def open(self, core: Core, passphrase: bytes) -> ContentKey:
        context = bind("passphrase stanza", core.digest())
        key = passphrases.unwrap(self.wrapped, passphrase, context=context, cost=self.cost)
        content = ContentKey(key, core.package)
        content.check(core.commitment)
        return content

    @property
    def forward_secret(self) -> bool:
        return False

    def encode(self) -> bytes:
        return b"".join(
            (
                bytes([_PASSPHRASE]),
                self.cost.memory_kib.to_bytes(4, "big"),
                self.cost.passes.to_bytes(2, "big"),
                self.cost.lanes.to_bytes(1, "big"),
                self.wrapped,
            )
        )


Stanza = KeyStanza | PassphraseStanza


def key_stanza_bytes(suite: AgreementSuite, *, prekey: bool) -> int:
    shares = (2 if prekey else 1) * (HINT_BYTES + suite.sealed_bytes(KEY_BYTES))
    return 1 + shares + wrap.WRAPPED_KEY_BYTES


PASSPHRASE_STANZA_BYTES: Final = 8 + passphrases.wrapped_bytes(KEY_BYTES)


def hint(package: str, card: str) -> bytes:
    return sha256(bind("hint", bytes.fromhex(package), bytes.fromhex(card)))[:HINT_BYTES]


def prekey_hint(package: str, prekey_id: str) -> bytes:
    return sha256(bind("prekey hint", bytes.fromhex(package), bytes.fromhex(prekey_id)))[
        :HINT_BYTES
    ]


def encode(stanzas: Sequence[Stanza]) -> bytes:
    return b"".join(stanza.encode() for stanza in stanzas)


def parse(data: bytes, *, recipients: int) -> tuple[Stanza, ...]:
    """Read exactly `recipients` stanzas that fill `data` exactly."""
    if recipients > limits.RECIPIENTS:
        raise FormatError("too many recipients")
    stanzas: list[Stanza] = []
    at = 0
    for _ in range(recipients):
        number = data[at] if at < len(data) else 0
        if number == _PASSPHRASE:
            length = PASSPHRASE_STANZA_BYTES
        elif number in _TYPES:
            suite, has_prekey = _TYPES[number]
            length = key_stanza_bytes(suite, prekey=has_prekey)
        else:
            raise UnknownVersion("a recipient stanza of unknown type")
        piece = data[at : at + length]
        if len(piece) != length:
            raise FormatError("the stanzas are cut")
        stanzas.append(_parse_passphrase(piece) if number == _PASSPHRASE else _parse_key(piece))
        at += length
    if at != len(data):
        raise FormatError("more bytes than stanzas")
    if len(stanzas) > 1 and any(isinstance(stanza, PassphraseStanza) for stanza in stanzas):
        raise FormatError("a passphrase stanza beside others")
    hints = [stanza.hint for stanza in stanzas if isinstance(stanza, KeyStanza)]
    if len(set(hints)) != len(hints):
        raise FormatError("two stanzas for one recipient")
    return tuple(stanzas)


def _parse_key(piece: bytes) -> KeyStanza:
    suite, has_prekey = _TYPES[piece[0]]
    share = suite.sealed_bytes(KEY_BYTES)
    widths = [HINT_BYTES, HINT_BYTES * has_prekey, share, share * has_prekey]
    ends = list(accumulate(widths, initial=1))
    hint_, prekey, share1, share2 = (piece[a:b] for a, b in pairwise(ends))
    return KeyStanza(suite, hint_, prekey, share1, share2, piece[ends[-1] :])


def _parse_passphrase(piece: bytes) -> PassphraseStanza:
    cost = passphrases.Cost(
        int.from_bytes(piece[1:5], "big"), int.from_bytes(piece[5:7], "big"), piece[7]
    )
    return PassphraseStanza(cost, piece[8:])


def _info(core: Core, card: str, prekey_id: str) -> bytes:
    return bind("share", core.digest(), bytes.fromhex(card), bytes.fromhex(prekey_id))


def _kek(shares: bytes, core: Core, card: str, prekey_id: str) -> bytes:
    return derive_from_shares(
        shares, "kek", bytes.fromhex(card), bytes.fromhex(prekey_id), salt=core.digest()
    )
