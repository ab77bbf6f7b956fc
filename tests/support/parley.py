"""Handshakes between the identities of a cast, and what an attacker on the line needs.

Nothing in here is used by counterseal.
"""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime

from counterseal.crypto import ephemeral
from counterseal.crypto.record import Opener
from counterseal.crypto.signing import Signature
from counterseal.exchange import handshake_messages as messages
from counterseal.exchange import transcript
from counterseal.exchange.handshake import Initiator, Responder
from counterseal.exchange.handshake_messages import Hello, Proof
from counterseal.exchange.sessionbook import SessionBook
from counterseal.exchange.transcript import Schedule, Transcript

AT = datetime(2026, 6, 1, 12, tzinfo=UTC)


def book_of(known):
    """A lookup of pinned histories; `known` are identities or histories."""
    histories = [getattr(one, "history", one) for one in known]
    return {history.identity: history for history in histories}.get


class Parley:
    """One handshake. `between(number, message)` returns what arrives instead of a message."""

    def __init__(
        self,
        us,
        them,
        *,
        to=None,
        known=None,
        purpose="test",
        their_purpose=None,
        binding=b"",
        their_binding=None,
        sessions=None,
        between=lambda _number, message: message,
        at=AT,
        ends=("initiator", "responder"),
        most=None,
    ):
        more = {} if most is None else {"most": most}
        self.at, self.between, self.messages = at, between, []
        # Whose clock is past the end: others live in the time when all was well.
        self.initiator_at = at if "initiator" in ends else AT
        self.initiator = Initiator(
            us, to=to or them.history, purpose=purpose, binding=binding, **more
        )
        self.responder = Responder(
            them,
            partners=book_of([us] if known is None else known),
            purpose=their_purpose or purpose,
            sessions=SessionBook() if sessions is None else sessions,
            binding=binding if their_binding is None else their_binding,
            **more,
        )

    def pass_on(self, message):
        self.messages.append(message)
        return self.between(len(self.messages) - 1, message)

    def run(self):
        answer = self.pass_on(self.initiator.hello(at=self.at))
        proof = self.pass_on(self.responder.answer(answer, at=self.at))
        confirmed = self.pass_on(self.initiator.prove(proof, at=self.at))
        message, self.theirs = self.responder.finish(confirmed, at=self.at)
        self.ours = self.initiator.finish(self.pass_on(message), at=self.at)
        return self.ours, self.theirs


def agree(us, them, **more):
    """(what the initiator has, what the responder has)."""
    return Parley(us, them, **more).run()


class Impostor:
    """Takes part under somebody's history with other keys: what an `Identity` is to a handshake."""

    def __init__(self, history, signer):
        self.history, self._signer = history, signer

    def current(self, *, at):
        return self.history.newest

    def signer(self, *, at):
        return self._signer


class HalfStolen:
    """Signs with one stolen half and one of its own: what half a quantum computer can do."""

    def __init__(self, stolen, own, *, pq):
        self.public, self._stolen, self._own, self._pq = stolen.public, stolen, own, pq

    def sign(self, message):
        one, other = self._stolen.sign(message), self._own.sign(message)
        if self._pq:
            return Signature(other.classical, one.pq)
        return Signature(one.classical, other.pq)


class Unbound:
    """Leaves fields out of the transcript, at both ends: what a careless protocol would do."""

    def __init__(self, *names):
        self.names = names

    def apply(self, patch):
        kept = tuple(name for name in transcript.TRANSCRIPT_FIELDS if name not in self.names)
        patch.setattr(transcript, "TRANSCRIPT_FIELDS", kept)


class Middle:
    """Shares of its own with either side; what they sign is handed on, newly encrypted."""

    def __init__(self, *, purpose="test", binding=b""):
        self.purpose, self.binding = purpose, binding

    def hello(self, message):
        """Lab's hello in, ours for clinic out."""
        self.theirs = Hello.parse(message)
        self.ephemeral = ephemeral.Ephemeral()
        self.ours = Hello(self.theirs.session, self.theirs.purpose, self.ephemeral.share)
        return self.ours.encode()

    def answer(self, message):
        """Clinic's answer in, ours for lab out, with clinic's signature in it."""
        answer, sealed = messages.split_answer(message)
        seen = self._transcript(self.ours, answer)
        self.far = Schedule(self.ephemeral.finish(answer), seen), seen
        answer, secret = ephemeral.answer(self.theirs.share)
        made = self._transcript(self.theirs, answer)
        self.near = Schedule(secret, made), made
        sealed = self._again(sealed, "responder", self.far, self.near)
        return messages.join_answer(answer, sealed)

    def proof(self, message):
        sealed = messages.split_proof(message)
        return messages.join_proof(self._again(sealed, "initiator", self.near, self.far))

    def confirmation(self, _message):
        keys, seen = self.near
        return messages.join_confirmation(keys.confirmation("responder", seen))

    def read(self, frame):
        """A frame that lab sent."""
        keys, seen = self.near
        return bytes(Opener(keys.channel_secret("initiator", seen)).open(frame)[1])

    def _again(self, sealed, role, source, target):
        keys, seen = source
        proof = Proof.open(sealed, keys.message_key(role))
        known = {f"{role}_identity": proof.identity, f"{role}_card": proof.card}
        self.near = self.near[0], replace(self.near[1], **known)
        self.far = self.far[0], replace(self.far[1], **known)
        keys, seen = self.far if target[0] is self.far[0] else self.near
        proof = replace(proof, confirmation=keys.confirmation(role, seen))
        return proof.seal(keys.message_key(role))

    def _transcript(self, hello, answer):
        return Transcript(
            version=b"\1",
            suite=b"\1",
            purpose=hello.purpose,
            session=hello.session,
            binding=self.binding,
            initiator_share=hello.share,
            responder_share=answer,
        )
