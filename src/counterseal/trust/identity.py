"""An identity: our side of every exchange. Private keys stay in its key ring.

What the layers above may ask: sign a document, open what was sealed to us, protect a secret
for our own store. No private byte comes out.
"""

from __future__ import annotations

import re
from contextlib import nullcontext, suppress
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Final

from counterseal.errors import (
    CountersealError,
    ExpiredKey,
    FormatError,
    RevokedKey,
    TrustError,
    UnknownPartner,
)
from counterseal.trust import atomic, prekeys, recovery, signed, succession
from counterseal.trust.card import CardDocument, Recovery
from counterseal.trust.history import History
from counterseal.trust.keystores import places
from counterseal.trust.keystores.keyring import Generation, KeyRing
from counterseal.trust.prekeystore import PrekeyStore
from counterseal.trust.store import Store

if TYPE_CHECKING:
    from collections.abc import Sequence
    from contextlib import AbstractContextManager

    from counterseal.crypto.agreement import Opener
    from counterseal.crypto.signing import Signer
    from counterseal.trust.history import DatedCard
    from counterseal.trust.home import Home
    from counterseal.trust.keystores import Keystore
    from counterseal.trust.succession import Reason
    from counterseal.wire.canonical import Message
    from counterseal.wire.dsse import Envelope

__all__ = ["Identity", "check_name"]

_NAME: Final = re.compile(r"[a-z0-9][a-z0-9._-]{0,63}")


class Identity:
    """One organization's keys. Make one with `create`, later `load`."""

    def __init__(
        self,
        history: History,
        ring: KeyRing,
        *,
        store: Store,
        home: Home | None = None,
        keystore: Keystore | None = None,
    ) -> None:
        self.history = history
        self.store = store
        self.prekeys = PrekeyStore(store, ring, owner=history.identity)
        self._ring = ring
        self._home = home
        self._keystore = keystore

    @classmethod
    def create(
        cls,
        name: str,
        *,
        home: Home | None = None,
        passphrase: bytes = b"",
        hardware: bool = False,
        keystore: str = places.FILE,
        recovery: Recovery = recovery.NO_RECOVERY,
        at: datetime | None = None,
    ) -> Identity:
        """Make new keys. Without `home` they live as long as this object does.

        With `home` they are kept there, encrypted under `passphrase` (1 to 4096 bytes); or, with
        `keystore="pkcs11:token=NAME"` or `"tpm:"`, in a token of which `passphrase` is the PIN.
        `hardware` takes the P-256 halves that tokens can hold. Raises FormatError for a name
        other than 1 to 64 of a-z 0-9 . _ -, FileExistsError if the home has it already.
        """
        check_name(name)
        if home is None:
            if keystore != places.FILE:
                raise ValueError("an identity in a token needs a home for its other half")
            keys = Generation.create(hardware=hardware)
            card, history = succession.first(name, keys, recovery=recovery, at=at or _now())
            return cls(history, KeyRing.create(card, keys), store=Store())
        home.ensure()
        folder = home.identity_folder(name)
        if (folder / "card.json").exists():
            raise FileExistsError(f"an identity named {name} exists in {home.path}")
        kept = places.new(keystore, folder / "keystore.json", name=name)
        with kept.new_keys(passphrase, hardware=hardware) as keys:
            card, history = succession.first(name, keys, recovery=recovery, at=at or _now())
            ring = KeyRing.create(card, keys)
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            kept.save(ring, passphrase)
            identity = cls(history, ring, store=home.store, home=home, keystore=kept)
            identity._write_card()  # last: an identity exists when its card does
        return identity

    @classmethod
    def load(cls, name: str, *, home: Home, passphrase: bytes) -> Identity:
        """Unlock an identity of `home`; Argon2id takes about 0.2 s of CPU.

        Of one in a token `passphrase` is the PIN; the session with it lasts until `close`.
        """
        history = cls.load_history(name, home=home)
        keystore = cls.keystore_of(name, home=home)
        ring = keystore.load(passphrase)
        return cls(history, ring, store=home.store, home=home, keystore=keystore)

    @classmethod
    def recover(
        cls,
        history: History,
        *,
        home: Home,
        passphrase: bytes,
        recovery_keys: Sequence[Signer],
        keystore: str = "",
        at: datetime | None = None,
    ) -> Identity:
        """Make new keys when the old ones are lost: enough recovery keys sign the new card.

        `history` is our newest card, from the home or from any partner. The new keystore
        replaces the old one under `passphrase`; `keystore` says where its keys are (as for
        `create`; default: where they were). What only the old keys could read is gone:
        packages sealed to them, prekeys, kept content keys. Raises RolledBack if the home has a
        newer card of ours: going on from an older one would be a fork.
        """
        if history.name in home.identities():
            here = cls.load_history(history.name, home=home)
            history = History.verify(history.document, pinned=here)
        folder = home.identity_folder(history.name)
        path = folder / "keystore.json"
        spec = keystore or cls.keystore_spec(history.name, home=home)
        kept = places.new(spec, path, name=history.name)
        with kept.new_keys(passphrase, hardware=_in_hardware(history)) as keys:
            card, renewed = succession.next_card(history, keys, by=recovery_keys, at=at or _now())
            ring = KeyRing.create(card, keys)
            home.ensure()
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            identity = cls(renewed, ring, store=home.store, home=home, keystore=kept)
            kept.save(ring, passphrase)
            identity._write_card()
        identity.prekeys.delete_all()  # nobody can read them any more
        return identity

    @staticmethod
    def keystore_of(name: str, *, home: Home) -> Keystore:
        """Where the keys of an identity are, without unlocking them."""
        return places.at(home.identity_folder(name) / "keystore.json")

    @staticmethod
    def keystore_spec(name: str, *, home: Home) -> str:
        """What `create` was told as `keystore`, in full."""
        return places.spec_of(home.identity_folder(name) / "keystore.json")

    @staticmethod
    def load_history(name: str, *, home: Home) -> History:
        """The public part, without unlocking."""
        check_name(name)
        path = home.identity_folder(name) / "card.json"
        if not path.exists():
            raise UnknownPartner(
                f'there is no identity "{name}" in {home.path}',
                hint="counterseal id list shows which there are",
            )
        return History.verify(CardDocument.load(path))

    @property
    def name(self) -> str:
        return self.history.name

    @property
    def key_id(self) -> str:
        """The key id of the newest card, 64 hex characters (`trust.keyid` reads it aloud)."""
        return self.history.newest.key_id

    def card(self) -> CardDocument:
        """What to hand to a partner: `lab.card().save("lab.card")`."""
        return self.history.document

    def current(self, *, at: datetime) -> DatedCard:
        """Our card in force; raises ExpiredKey or RevokedKey with what to do about it."""
        try:
            return self.history.current(at=at)
        except RevokedKey as error:
            raise RevokedKey(
                "our own key is revoked", hint="counterseal id rotate --recovery KEY..."
            ) from error
        except ExpiredKey as error:
            raise ExpiredKey("our own card has ended", hint="counterseal id rotate") from error

    def sign(self, document: Message, payload_type: str, *, at: datetime) -> Envelope:
        card = self.current(at=at).key_id
        return signed.sign(document, payload_type, by=[self._ring.signer(card)])

    def signer(self, *, at: datetime) -> Signer:
        return self._ring.signer(self.current(at=at).key_id)

    def signer_of(self, card: str) -> Signer:
        """Of one of our cards, perhaps a replaced one; BadCiphertext if its keys are gone."""
        return self._ring.signer(card)

    def sign_statement(self, message: bytes, *, at: datetime) -> bytes:
        return self._ring.sign_statement(self.current(at=at).key_id, message)

    def openers(self) -> list[tuple[str, Opener]]:
        """(key id, opener) of every card whose private keys we still have, newest first."""
        revoked = {dated.key_id for dated in self.history.cards if dated.revoked}
        held = [c for c in reversed(self._ring.cards) if c not in revoked]
        return [(card, self._ring.opener(card)) for card in held]

    def protect(self, secret: bytes, *, label: str) -> bytes:
        return self._ring.protect(secret, label=label)

    def unprotect(self, protected: bytes, *, label: str) -> bytes:
        return self._ring.unprotect(protected, label=label)

    def make_prekeys(self, partner: History, count: int, *, at: datetime) -> Envelope:
        """Make one-time prekeys for one partner and remember their private halves."""
        self.current(at=at)
        self.prekeys.delete_outlived(at=at, kind="one-time")
        bundle, keys = prekeys.generate(self.history, partner, count, at=at)
        self.prekeys.add(bundle, keys)
        return self.sign(bundle, prekeys.PREKEYS_TYPE, at=at)

    def rotate(
        self,
        *,
        passphrase: bytes = b"",
        recovery_keys: Sequence[Signer] = (),
        recovery: Recovery | None = None,
        keystore: str = "",
        at: datetime | None = None,
    ) -> None:
        """Replace the keys. The old key signs the new card, or enough `recovery_keys` do.

        `recovery` replaces the recovery keys from here on. The old private keys stay, so that
        packages on their way can be opened, until `forget_old_keys`. `keystore` moves an
        identity from a file into a token, whose PIN `passphrase` then is.
        """
        at = at or _now()
        newest = self.history.newest
        kept = self._moved(keystore) if keystore else self._keystore
        with _new_keys(kept, passphrase, hardware=_in_hardware(self.history)) as keys:
            by = recovery_keys or [self._ring.signer(newest.key_id)]
            card, history = succession.next_card(
                self.history, keys, by=by, at=at, recovery=recovery
            )
            self._replace(history, self._ring.with_generation(card, keys), passphrase, kept)
        if kept is not None:
            with suppress(CountersealError):  # made up for with the next change
                kept.sweep()

    def revoke(
        self,
        *,
        reason: Reason,
        which: str | None = None,
        recovery_keys: Sequence[Signer] = (),
        at: datetime | None = None,
    ) -> None:
        """Withdraw a card (default: the newest), for good."""
        which = which or self.key_id
        by: Sequence[Signer] = recovery_keys or [self._ring.signer(self.key_id)]
        self.history = succession.revoke(self.history, which, by=by, reason=reason, at=at or _now())
        self._write_card()

    def forget_old_keys(self, *, passphrase: bytes = b"") -> int:
        """Delete the private keys behind replaced cards; returns how many."""
        old = [card for card in self._ring.cards if card != self.key_id]
        self._replace(self.history, self._ring.without(old), passphrase, self._keystore)
        if self._keystore is not None:
            try:
                self._keystore.sweep()
            except CountersealError as error:
                raise TrustError(
                    "the old keys are forgotten here, but could not be destroyed in their token",
                    hint="counterseal id forget-old-keys once more, with the token in its place",
                ) from error
        return len(old)

    def change_passphrase(self, new: bytes) -> None:
        if self._keystore is None:
            raise RuntimeError("this identity is not kept in a home")
        self._use(self.history, self._keystore.change_passphrase(self._ring, new))

    def close(self) -> None:
        """End the session with the token, if the keys are in one; they answer no more."""
        if self._keystore is not None:
            self._keystore.close()

    def _moved(self, spec: str) -> Keystore:
        if self._home is None or self._keystore is None:
            raise RuntimeError("this identity is not kept in a home")
        if spec == places.FILE or self._keystore.asks_for == "PIN":
            raise TrustError(
                "keys cannot leave a token, so an identity in one cannot move",
                hint="counterseal id recover --keystore makes new ones elsewhere",
            )
        return places.new(
            spec, self._home.identity_folder(self.name) / "keystore.json", name=self.name
        )

    def _replace(
        self, history: History, ring: KeyRing, passphrase: bytes, keystore: Keystore | None
    ) -> None:
        if keystore is not None:
            if not passphrase:
                raise ValueError("the passphrase is needed to store the changed keys")
            keystore.save(ring, passphrase)  # first: a card without keys would be useless
        self._keystore = keystore
        self._use(history, ring)
        self._write_card()

    def _use(self, history: History, ring: KeyRing) -> None:
        self.history, self._ring = history, ring
        self.prekeys = PrekeyStore(self.store, ring, owner=history.identity)

    def _write_card(self) -> None:
        if self._home is not None:
            path = self._home.identity_folder(self.name) / "card.json"
            atomic.write_whole(path, self.history.document.encode())

    def __repr__(self) -> str:
        return f"<Identity {self.name} {self.key_id[:16]}>"


def check_name(name: str) -> None:
    if not _NAME.fullmatch(name):
        raise FormatError(
            f"{name!r} cannot be a name",
            hint="1 to 64 characters: a-z, 0-9, dot, hyphen, underscore",
        )


def _new_keys(
    kept: Keystore | None, passphrase: bytes, *, hardware: bool
) -> AbstractContextManager[Generation]:
    if kept is None:
        return nullcontext(Generation.create(hardware=hardware))
    return kept.new_keys(passphrase, hardware=hardware)


def _in_hardware(history: History) -> bool:
    return history.newest.card.signing.suite.startswith("p256")


def _now() -> datetime:
    return datetime.now(UTC)
