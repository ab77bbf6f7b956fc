"""The keystore of an identity whose P-256 halves stay in a token; the rest in one file (SPEC 2.11).

    keystore.json   token, serial, ticket, sealed
                                     |        '-- ML-DSA and ML-KEM seeds, store key, key handles
         the token, after its PIN:   '--> key --^

Today's tokens know no ML-DSA and no ML-KEM. So the post-quantum halves lie in the file, under
a key that only the token gives back: a thief of the file has nothing, whatever computer they
have, and a thief of the token needs the PIN. While an identity is unlocked its post-quantum
halves are in memory, as they are with a passphrase. The P-256 halves never are: who copies
that memory can sign and open nothing without the token.

Each time the file is written the token keeps a new key and forgets the one before, so that
what was forgotten does not come back with an old copy of the file (`tpm` cannot promise it).
"""

from __future__ import annotations

import os
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Final, Literal

from counterseal.crypto import wrap
from counterseal.crypto.agreement import AgreementKey, AgreementSuite
from counterseal.crypto.signing import SigningKey, SigningSuite
from counterseal.crypto.statement import StatementKey
from counterseal.errors import BadCiphertext, CountersealError, TrustError
from counterseal.trust import atomic
from counterseal.trust.keystores import halves, uri
from counterseal.trust.keystores.file import check_private
from counterseal.trust.keystores.halves import TokenHalf
from counterseal.trust.keystores.keyring import Generation
from counterseal.trust.keystores.uri import Pkcs11Uri
from counterseal.wire import canonical, limits
from counterseal.wire.canonical import Message

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from counterseal.trust.keystores import Purpose, Token
    from counterseal.trust.keystores.halves import PackedRing
    from counterseal.trust.keystores.keyring import KeyRing
    from counterseal.trust.keystores.uri import TokenUri

__all__ = ["KIND", "TokenKeystore"]

KIND: Final = "token-keystore"
_LABEL: Final = "token keystore"
_NOTHING: Final[frozenset[bytes]] = frozenset()


class _Outside(Message, frozen=True):
    """The file. What finds the token is in the clear; it stands inside `sealed` as well."""

    kind: Literal["token-keystore"]
    format: Literal[1]
    token: str
    serial: str
    ticket: bytes
    sealed: bytes


class TokenKeystore:
    """The key ring of one identity, with a PKCS#11 token or a TPM."""

    def __init__(self, path: Path, where: TokenUri, *, name: str, serial: str = "") -> None:
        """`serial`: of the token that the keys are in, if there are some already."""
        self._path = path
        self.where = where
        self._name = name
        self._serial = serial
        self._token: Token | None = None
        self._ticket = b""
        self._named = _NOTHING  # handles in the file
        self._stale = _NOTHING  # handles that nothing names any more
        self._fresh: list[bytes] = []  # handles that the file does not name yet

    @classmethod
    def at(cls, path: Path) -> TokenKeystore:
        """Of an identity that was made before. Asks no token."""
        outside = _read(path)
        return cls(path, uri.parse(outside.token), name=path.parent.name, serial=outside.serial)

    @property
    def place(self) -> str:
        if isinstance(self.where, Pkcs11Uri):
            serial = f", serial {self._serial}" if self._serial else ""
            return f'PKCS#11 token "{self.where.token}"{serial}'
        return f"TPM, {self.where.tcti}"

    @property
    def asks_for(self) -> str:
        return "PIN"

    @contextmanager
    def new_keys(self, passphrase: bytes, *, hardware: bool = True) -> Iterator[Generation]:  # noqa: ARG002 - the seam
        token = self._unlocked(passphrase)
        try:
            yield self._generate(token)
        except BaseException:
            with suppress(CountersealError):  # the first error is the one to tell
                token.destroy(self._fresh)
            self._fresh.clear()
            raise

    def load(self, passphrase: bytes) -> KeyRing:
        outside = _read(self._path)
        token = self._unlocked(passphrase)
        try:
            packed = halves.read(_opened(outside, token))
            ring = halves.unpack(packed, token)
        except BaseException:
            self.close()
            raise
        self._ticket, self._named = outside.ticket, halves.handles(ring)
        self._stale = frozenset(packed.stale)
        return ring

    def save(self, ring: KeyRing, passphrase: bytes) -> None:
        token = self._unlocked(passphrase)
        self.sweep()  # should that have been interrupted the last time
        named = halves.handles(ring)
        stale = (self._named - named) | ({self._ticket} - {b""})
        ticket, key = token.keep_key()
        # Among them keys that were made for a rotation which then failed, the token being gone.
        stale |= {one for one in token.made() - named if not ticket.startswith(one)}
        try:
            packed = halves.pack(ring, token, stale=stale)
            outside = _Outside(
                kind=KIND,
                format=1,
                token=str(token.uri),
                serial=token.serial,
                ticket=ticket,
                sealed=wrap.protect(packed, key=key, label=_LABEL),
            )
            atomic.write_whole(self._path, canonical.encode(outside), mode=0o600)
        except BaseException:
            with suppress(CountersealError):
                token.destroy([ticket])
            raise
        self._ticket, self._named, self._stale = ticket, named, stale
        self._fresh.clear()

    def sweep(self) -> None:
        """Destroy in the token what the file names no longer."""
        if self._token is not None and self._stale:
            self._token.destroy(self._stale)
            self._stale = _NOTHING

    def change_passphrase(self, ring: KeyRing, new: bytes) -> KeyRing:
        token = self._unlocked(b"")
        changed = token.change_pin(halves.handles(ring), new)
        ring = halves.unpack(halves.read(halves.pack(ring, token, changed=changed)), token)
        self.save(ring, new)
        return ring

    def adopt(self, packed: PackedRing, passphrase: bytes) -> KeyRing:
        """The ring of a backup, if its keys are still in the token: each has to prove it."""
        token = self._unlocked(passphrase)
        try:
            ring = halves.unpack(packed, token)
            for generation in ring._generations.values():  # noqa: SLF001 - keystores take rings apart
                halves.prove(generation)
        except BaseException:
            self.close()
            raise
        return ring

    def check(self) -> str:
        if isinstance(self.where, Pkcs11Uri):
            from counterseal.trust.keystores import pkcs11

            pkcs11.check(self.where, serial=self._serial)
        else:
            from counterseal.trust.keystores import tpm

            tpm.check(self.where, serial=self._serial)
        return f"{self.place}, which is here"

    def close(self) -> None:
        if self._token is not None:
            self._token.close()
            self._token = None

    def _unlocked(self, pin: bytes) -> Token:
        if self._token is None:
            self._token = self._unlock(pin)
            self.where, self._serial = self._token.uri, self._token.serial
        return self._token

    def _unlock(self, pin: bytes) -> Token:
        if isinstance(self.where, Pkcs11Uri):
            from counterseal.trust.keystores import pkcs11

            return pkcs11.unlock(self.where, pin, serial=self._serial, owner=self._name)
        from counterseal.trust.keystores import tpm

        return tpm.unlock(self.where, pin, serial=self._serial)

    def _generate(self, token: Token) -> Generation:
        tag = os.urandom(4).hex()

        def half(purpose: Purpose) -> TokenHalf:
            handle, point = token.generate(purpose, tag)
            self._fresh.append(handle)
            return TokenHalf(token, handle, point)

        software = Generation.create(hardware=True)
        generation = Generation(
            SigningKey(SigningSuite.P256, half("signing"), software.signing.pq_seed()),
            AgreementKey(AgreementSuite.P256, half("agreement"), software.agreement.pq_seed()),
            StatementKey(half("statement")),
        )
        # A token that holds another key than it says would make a card that nobody can use.
        halves.prove(generation)
        return generation

    def __repr__(self) -> str:
        return f"<TokenKeystore {self.where}>"


def _read(path: Path) -> _Outside:
    check_private(path)
    data = atomic.read_bounded(path, limits.KEYSTORE_BYTES, what="keystore")
    return canonical.decode(data, _Outside, limit=limits.KEYSTORE_BYTES, what="keystore")


def _opened(outside: _Outside, token: Token) -> bytes:
    try:
        return wrap.unprotect(outside.sealed, key=token.recall_key(outside.ticket), label=_LABEL)
    except BadCiphertext:
        raise TrustError(
            "this keystore is not of this token, or was changed",
            hint="counterseal id restore BACKUP, or counterseal id recover with recovery keys",
        ) from None
