"""A group: who is in it is decided by its owner, epoch by epoch (SPEC 11).

    epoch 1  lab*, clinic, bank     key 1
      │ digest
    epoch 2  lab*, clinic, rival    key 2     bank is gone: it cannot read on
      │ digest                                rival is new: it cannot read back
    epoch 3  ...

Pure but for randomness: documents, shares and the time in; state that changes whole or not
at all. The rules for a new epoch, in order; the first that fails raises and changes nothing:
1. Its document is canonical and signed by the owner that this group has had from the start,
   with a card that counts (`History.for_signature`).
2. It is the next one: the same group, the number after ours, naming the digest of ours. An
   older one is a rollback, another one with our number a fork, a later one comes too early:
   epochs are handed over in order, so that nobody can leave out a removal.
3. It was made not before ours and not in the future, and is not over.
4. The roster is in order without repetition and has the owner. Every member is a partner we
   have pinned, with a card of theirs that is not revoked: nobody listens whom we do not know.
5. If we are in it, our share opens to the key that the document commits to. If we are not,
   we have been removed: the key we had is forgotten.

The old key goes with its epoch: what comes late is not read any more. An epoch is over
after 30 days; that is how long a relay that holds back the next one can keep a removed
member listening.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Final

from counterseal.errors import (
    BadCiphertext,
    ExpiredKey,
    FormatError,
    RolledBack,
    TrustError,
)
from counterseal.exchange import epoch as epochs
from counterseal.exchange import epoch_check, group_messages
from counterseal.exchange.epoch import Epoch, EpochDocument, Seat
from counterseal.exchange.group_messages import Received, Seen, Writer
from counterseal.wire import canonical
from counterseal.wire.canonical import PrivateMessage
from counterseal.wire.dsse import Envelope

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime

    from counterseal.exchange.epoch_check import Lookup
    from counterseal.trust.history import History
    from counterseal.trust.identity import Identity

__all__ = ["Epoch", "Group", "Received", "Seat"]

_LABEL: Final = "group"


class _State(PrivateMessage, frozen=True):
    envelope: Envelope
    key: bytes  # empty: removed


class Group:
    """What one member knows of a group, the owner included."""

    def __init__(self, us: str, envelope: Envelope, document: EpochDocument, key: bytes) -> None:
        """Make one with `found`, `join` or `restore`."""
        self.spent: str | None = None  # a prekey; delete it when `protect` is stored
        self._us = us
        self._take(envelope, document, key)

    @classmethod
    def found(cls, us: Identity, seats: Sequence[Seat], *, at: datetime) -> tuple[Group, Epoch]:
        """Start a group that we own, with everybody in `seats`."""
        name = os.urandom(32).hex()
        epoch = epochs.make(us, seats, group=name, number=1, previous=None, at=at)
        return cls._of(us, epoch), epoch

    def renew(self, us: Identity, seats: Sequence[Seat], *, at: datetime) -> Epoch:
        """The next epoch: after a join, a removal, a stolen key, or in time. Owner only.

        From here on our group is in it. Store `protect` before handing anything out: an
        owner who starts again from an older state makes a fork, which members refuse.
        """
        if us.history.identity != self.owner:
            raise TrustError("only the owner of a group makes its epochs")
        made = epochs.make(
            us,
            seats,
            group=self.id,
            number=self.number + 1,
            previous=self._digest.hex(),
            at=max(at, self._document.created),
        )
        self._take(made.envelope, made.document, _own_key(us, made))
        return made

    @classmethod
    def join(
        cls,
        envelope: Envelope,
        share: bytes,
        *,
        us: Identity,
        owner: History,
        partners: Lookup,
        at: datetime,
    ) -> Group:
        """Enter a group with the epoch that first has us, by all rules but 2.

        `owner`: whose group we agreed to enter, out of band. `partners`: from an identity to
        its pinned history, or None.
        """
        document = epoch_check.verified(envelope, owner=owner, at=at)
        epoch_check.check_times(document, at=at)
        epoch_check.check_roster(document, us=us.history, owner=owner, partners=partners)
        key, prekey = epochs.open_share(share, document, epochs.epoch_digest(envelope), us=us)
        group = cls(us.history.identity, envelope, document, key)
        group.spent = prekey
        return group

    def advance(
        self,
        envelope: Envelope,
        share: bytes | None,
        *,
        us: Identity,
        owner: History,
        partners: Lookup,
        at: datetime,
    ) -> None:
        """Go on to the next epoch by the rules above. `share`: None if none came with it."""
        if owner.identity != self.owner:
            raise TrustError("this group has another owner")
        document = epoch_check.verified(envelope, owner=owner, at=at)
        self._check_next(document, envelope)
        if document.created < self._document.created:
            raise FormatError("the epochs of a group do not run forwards")
        epoch_check.check_times(document, at=at)
        epoch_check.check_roster(document, us=us.history, owner=owner, partners=partners)
        key, prekey = b"", None
        if document.seat(self._us) is not None:
            if share is None:
                raise BadCiphertext("our share of the new epoch is missing")
            key, prekey = epochs.open_share(share, document, epochs.epoch_digest(envelope), us=us)
        self._take(envelope, document, key)
        self.spent = prekey

    def seal(self, message: bytes, *, at: datetime) -> bytes:
        """A message for everybody in the epoch."""
        self._check_usable(at)
        if self._writer is None:
            raise _removed()
        return self._writer.seal(message)

    def open(self, sealed: bytes, *, at: datetime) -> Received:
        """Who wrote what, each message once."""
        self._check_usable(at)
        if not self._key:
            raise _removed()
        number = group_messages.number_of(sealed)
        if number != self.number:
            raise BadCiphertext(
                f"this message is of epoch {number} and we are in epoch {self.number}",
                hint="fetch what the owner of the group has handed out"
                if number > self.number
                else "its key is gone: ask for it to be sent again",
            )
        identities = [member.identity for member in self._document.roster]
        return group_messages.read(
            sealed, self._key, self._digest, identities=identities, seen=self._seen
        )

    @property
    def id(self) -> str:
        return self._document.group

    @property
    def owner(self) -> str:
        return self._document.owner

    @property
    def number(self) -> int:
        return self._document.number

    @property
    def members(self) -> tuple[str, ...]:
        """Their identities."""
        return tuple(member.identity for member in self._document.roster)

    def protect(self, us: Identity) -> bytes:
        """To be stored: without it we could be led back to an epoch that is over."""
        state = _State(envelope=self._envelope, key=self._key)
        return us.protect(canonical.encode(state), label=_LABEL)

    @classmethod
    def restore(cls, protected: bytes, *, us: Identity) -> Group:
        """What was received is forgotten: a message of this epoch can be replayed once more."""
        plain = us.unprotect(protected, label=_LABEL)
        state = canonical.decode(plain, _State, limit=2 * epochs.DOCUMENT_BYTES, what="group")
        return cls(
            us.history.identity, state.envelope, epoch_check.parse(state.envelope), state.key
        )

    @classmethod
    def _of(cls, us: Identity, made: Epoch) -> Group:
        return cls(us.history.identity, made.envelope, made.document, _own_key(us, made))

    def _take(self, envelope: Envelope, document: EpochDocument, key: bytes) -> None:
        self._envelope, self._document, self._key = envelope, document, key
        self._digest = epochs.epoch_digest(envelope)
        self._seen = Seen()
        self._writer: Writer | None = None
        seat = document.seat(self._us)
        if key and seat is not None:
            self._writer = Writer(
                key, self._digest, epoch=document.number, seat=seat, identity=self._us
            )

    def _check_next(self, document: EpochDocument, envelope: Envelope) -> None:
        if document.group != self.id:
            raise TrustError("this is an epoch of another group")
        ours, theirs = self._digest, epochs.epoch_digest(envelope)
        if document.number < self.number or theirs == ours:
            raise RolledBack("this epoch of the group is over or known")
        if document.number == self.number:
            raise RolledBack(
                "the owner of the group made two epochs with one number",
                hint="talk to them: somebody may see another group than you do",
            )
        if document.number > self.number + 1:
            raise TrustError(
                f"epoch {self.number + 1} of the group is missing", hint="fetch it first"
            )
        if document.previous != ours.hex():
            raise RolledBack("this epoch does not follow the one we are in")

    def _check_usable(self, at: datetime) -> None:
        if at > self._document.created + epochs.LIFETIME:
            raise ExpiredKey("this epoch of the group is over", hint="ask its owner for a new one")

    def __repr__(self) -> str:
        return f"<Group {self.id[:16]} epoch {self.number}>"


def _own_key(us: Identity, made: Epoch) -> bytes:
    share = made.shares[us.history.identity]
    key, _ = epochs.open_share(share, made.document, epochs.epoch_digest(made.envelope), us=us)
    return key


def _removed() -> TrustError:
    return TrustError("we are not in this group any more", hint="ask its owner")
