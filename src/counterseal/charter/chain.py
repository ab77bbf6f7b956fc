"""What the parties hand each other: every version that was signed, and every step, in order.

A chain is folded from its beginning each time it is read: nothing about where a charter stands
is believed because it is written down somewhere. What we hold ourselves is only ever continued
(`newer`): an older chain, or another one from some step on, is refused.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Annotated, Final, Literal

import msgspec

from counterseal.charter import signing, states
from counterseal.charter.states import STEP_TYPE, Action, Standing, Step
from counterseal.errors import (
    BadSignature,
    CharterDenied,
    FormatError,
    RolledBack,
    TamperError,
)
from counterseal.trust import signed
from counterseal.wire import canonical, limits
from counterseal.wire.canonical import Message
from counterseal.wire.dsse import Envelope

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from datetime import datetime

    from counterseal.charter.document import Charter
    from counterseal.charter.signing import Side, SignedCharter
    from counterseal.trust.history import History
    from counterseal.trust.identity import Identity

__all__ = ["Chain", "ChainDocument", "Taken"]

MOST: Final = 1024


class Move(Message, frozen=True):
    """A step, and the version it brings or is about."""

    step: Envelope
    version: Envelope


class ChainDocument(Message, frozen=True):
    """The file. Nothing in it is secret. `pending`: a step of both that one has signed."""

    kind: Literal["charter-chain"]
    format: Literal[1]
    moves: Annotated[tuple[Move, ...], msgspec.Meta(min_length=1, max_length=MOST)]
    pending: Move | None

    @classmethod
    def parse(cls, data: bytes) -> ChainDocument:
        return canonical.decode(data, cls, limit=limits.CHARTER_CHAIN_BYTES, what="charter")

    def encode(self) -> bytes:
        return canonical.encode(self)


def _never(_new: Charter, _old: Charter) -> bool:
    return False


@dataclass(frozen=True, slots=True)
class Chain:
    """A verified chain. Make one only with `begin` or `verify`.

    `waiting`: the step that one side has signed and the other is asked to, and the version that
    the charter would have.
    """

    document: ChainDocument
    standing: Standing
    waiting: tuple[Step, SignedCharter] | None = None

    @property
    def charter(self) -> Charter:
        return self.version.charter

    @property
    def version(self) -> SignedCharter:
        if self.standing.version is None:  # a chain has at least one move
            raise FormatError("a charter without a version")
        return self.standing.version

    @classmethod
    def begin(
        cls, charter: Charter, *, by: Identity, parties: Mapping[str, History], at: datetime
    ) -> Chain:
        """Offer a charter: our signature under the version and under the first step."""
        envelope = signing.sign(charter, by=by, at=at)
        return _Pen(by, parties, at).take(None, "offer", envelope)

    @classmethod
    def verify(
        cls,
        document: ChainDocument,
        *,
        parties: Mapping[str, History],
        narrower: Callable[[Charter, Charter], bool] = _never,
    ) -> Chain:
        """Fold it from the first step. `narrower(new, old)` proves an amendment (`diff`)."""
        standing = Standing()
        for move in document.moves:
            version = signing.verify(move.version, parties=parties)
            step, by = _read_step(move.step, version.charter, parties)
            old = standing.version
            proved = (
                step.action == "amend"
                and old is not None
                and not version.complete
                and narrower(version.charter, old.charter)
            )
            standing = standing.after(step, by=by, version=version, narrower=proved)
        chain = cls(msgspec.structs.replace(document, pending=None), standing)
        if document.pending is None:
            return chain
        return _pending(chain, document.pending, parties)

    def countersigned(self, *, by: Identity, parties: Mapping[str, History], at: datetime) -> Chain:
        """Accept what the other side offered, and sign it: now both have."""
        envelope = signing.countersign(self.version.envelope, by=by, parties=parties, at=at)
        pen = _Pen(by, parties, at)
        return pen.take(pen.take(self, "accept", envelope), "sign", envelope)

    def moved(
        self,
        action: Action,
        *,
        by: Identity,
        parties: Mapping[str, History],
        at: datetime,
        version: Envelope | None = None,
        reason: str | None = None,
        narrower: bool = False,
    ) -> Chain:
        """The next step, signed by us; one that needs both waits for the other (`cosigned`).

        `narrower`: the version was proved to be. Raises CharterDenied if the step is not ours to
        take, or not the time for it.
        """
        envelope = version or self.version.envelope
        pen = _Pen(by, parties, at, narrower=narrower)
        return pen.take(self, action, envelope, reason)

    def cosigned(self, *, by: Identity, parties: Mapping[str, History], at: datetime) -> Chain:
        """Sign the step that waits for us."""
        pending = self.document.pending
        if pending is None:
            raise CharterDenied("no step waits for a second signature")
        version = signing.verify(pending.version, parties=parties)
        step, sides = _read_step(pending.step, version.charter, parties)
        side = signing.side_of(version.charter, by.history.identity)
        if side in sides:
            raise CharterDenied("we signed this step already", hint="the other side has to")
        envelope = pending.version
        if side not in version.sides:
            envelope = signing.countersign(envelope, by=by, parties=parties, at=at)
        ours = by.sign(step, STEP_TYPE, at=at)
        both = Envelope(
            payload=pending.step.payload,
            payloadType=STEP_TYPE,
            signatures=(*pending.step.signatures, *ours.signatures),
        )
        return _with_move(self, Move(step=both, version=envelope), parties)

    def taken(self, *, parties: Mapping[str, History]) -> list[Taken]:
        """Every step so far, with who signed it: what a ledger writes down."""
        found = []
        for move in self.document.moves:
            version = signing.verify(move.version, parties=parties)
            step, sides = _read_step(move.step, version.charter, parties)
            found.append(Taken(step, sides, version.charter))
        return found

    def newer(self, other: Chain) -> Chain:
        """`other`, if it continues this one; raises RolledBack or TamperError if not."""
        ours, theirs = self.document.moves, other.document.moves
        if ours == theirs and self.document.pending is not None:
            return self if other.document.pending is None else other
        if other.charter.id != self.charter.id:
            raise TamperError("this is another charter")
        if theirs[: len(ours)] == ours:
            return other
        if ours[: len(theirs)] == theirs:
            raise RolledBack(
                "we hold later steps of this charter already",
                hint="send yours to your partner: counterseal charter show --output FILE",
            )
        raise TamperError(
            "this charter contradicts the one we hold",
            hint="one side signed two different steps: talk to your partner",
        )


@dataclass(frozen=True, slots=True)
class Taken:
    """A step that was taken, who signed it, and the version that it left in force."""

    step: Step
    sides: frozenset[Side]
    charter: Charter


@dataclass(frozen=True, slots=True)
class _Pen:
    """Who signs the next step, and when."""

    by: Identity
    parties: Mapping[str, History]
    at: datetime
    narrower: bool = False

    def take(
        self, chain: Chain | None, action: Action, envelope: Envelope, reason: str | None = None
    ) -> Chain:
        version = signing.verify(envelope, parties=self.parties)
        last = None if chain is None else chain.standing.last
        step = Step(
            kind="charter-step",
            format=1,
            charter=version.charter.id,
            number=1 if last is None else last.number + 1,
            previous=None if last is None else last.digest,
            action=action,
            version=version.charter.digest,
            reason=reason,
            at=canonical.timestamp(self.at),
        )
        move = Move(step=self.by.sign(step, STEP_TYPE, at=self.at), version=envelope)
        state = "draft" if chain is None else chain.standing.at(step.at)
        if chain is not None and states.needs_both(action, state) and not self.narrower:
            return _pending(chain, move, self.parties)
        return _with_move(chain, move, self.parties, narrower=self.narrower)


def _with_move(
    chain: Chain | None, move: Move, parties: Mapping[str, History], *, narrower: bool = False
) -> Chain:
    version = signing.verify(move.version, parties=parties)
    step, by = _read_step(move.step, version.charter, parties)
    before = Standing() if chain is None else chain.standing
    standing = before.after(step, by=by, version=version, narrower=narrower)
    moves = () if chain is None else chain.document.moves
    document = ChainDocument(kind="charter-chain", format=1, moves=(*moves, move), pending=None)
    return Chain(document, standing)


def _pending(chain: Chain, move: Move, parties: Mapping[str, History]) -> Chain:
    """Check all but the second signature now: nobody should be asked to sign nonsense."""
    version = signing.verify(move.version, parties=parties)
    step, by = _read_step(move.step, version.charter, parties)
    if not by:
        raise BadSignature("nobody has signed this step")
    chain.standing.after(step, by=_BOTH, version=replace(version, sides=_BOTH))
    document = msgspec.structs.replace(chain.document, pending=move)
    return Chain(document, chain.standing, (step, version))


_BOTH: Final[frozenset[Side]] = frozenset(("owner", "partner"))


def _read_step(
    envelope: Envelope, charter: Charter, parties: Mapping[str, History]
) -> tuple[Step, frozenset[Side]]:
    known = signing.keys_of(charter, parties)
    found = signed.signers(envelope, STEP_TYPE, known=list(known))
    sides = [known[key] for key in found]
    if len(set(sides)) != len(sides):
        raise BadSignature("one party signed this step twice")
    step = canonical.decode(
        envelope.payload, Step, limit=limits.CHARTER_BYTES, what="step of a charter"
    )
    return step, frozenset(sides)
