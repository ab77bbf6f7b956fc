"""Two partners on one line: who is there, and keys that nobody else has (SPEC 9).

    initiator                                      responder
        | -- 1  session, purpose, share ------------> |
        | <- 2  answer, {who, signature, MAC} ------- |  keys; the responder is known
        | -- 3  {who, signature, MAC} --------------> |  the initiator is known
        | <- 4  MAC --------------------------------- |  both know that both know

SIGMA-I (Krawczyk 2003) with X-Wing for Diffie-Hellman and both halves of both signatures. A
listener learns no identity. Whoever calls learns the responder's; the initiator's is shown
only to the partner that was called, after that one has proved itself. Neither side gives a
channel away before the other has shown that it holds the same keys for the same two
identities. What stops what:

| attack | stopped by |
|---|---|
| man in the middle | both signatures, over both shares |
| identity misbinding, unknown key share | the MAC over who; the identities in what is signed |
| later theft of every long-term key | shares that are used once and then dropped |
| a replayed message | the other side's fresh share; `SessionBook` only saves the work |
| reflection, another purpose, line, version | role and `transcript` in each signature |

Pure: bytes in, bytes out, the time is an argument. Each object does one handshake; after an
error every further step is a RuntimeError. The far side is told nothing: close the line.
"""

from __future__ import annotations

import contextlib
import os
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import TYPE_CHECKING, Final

from counterseal.crypto import ephemeral
from counterseal.crypto.digest import equal
from counterseal.errors import Aborted, BadSignature, TrustError, UnknownPartner
from counterseal.exchange import handshake_messages as messages
from counterseal.exchange.channel import MESSAGE_BYTES, Channel, ChannelKeys
from counterseal.exchange.handshake_messages import Hello, Proof
from counterseal.exchange.transcript import TRANSCRIPT_FIELDS, Role, Schedule, Transcript

if TYPE_CHECKING:
    from collections.abc import Callable
    from datetime import datetime

    from counterseal.exchange.sessionbook import SessionBook
    from counterseal.trust.history import DatedCard, History
    from counterseal.trust.identity import Identity

__all__ = ["TRANSCRIPT_FIELDS", "Agreed", "Initiator", "Responder"]

LIFETIME: Final = timedelta(days=1)  # of a channel: a revocation counts at the latest tomorrow


@dataclass(frozen=True, slots=True)
class Agreed:
    """The end of a handshake: with whom, for what, and the channel to them."""

    partner: History
    card: str
    session: bytes
    purpose: str
    channel: Channel  # ready, and not its keys: two channels with the same would repeat nonces


class _Side:
    """What both sides do alike. `_take` hands the current step out once: errors are final."""

    def __init__(self, us: Identity, *, purpose: str, binding: bytes, most: int) -> None:
        self._us = us
        self._most = most
        self._purpose = purpose
        self._purpose_bytes = messages.check_purpose(purpose)
        self._binding = binding
        self._next = "first"

    def _take(self, step: str) -> None:
        if self._next != step:
            raise RuntimeError(f"the handshake cannot go on with this step ({self._next})")
        self._next = "ended"

    def _hello_transcript(self, hello: Hello, answer: bytes) -> Transcript:
        return Transcript(
            version=bytes([messages.VERSION]),
            suite=bytes([messages.SUITE]),
            purpose=hello.purpose,
            session=hello.session,
            binding=self._binding,
            initiator_share=hello.share,
            responder_share=answer,
        )

    def _prove(self, role: Role, transcript: Transcript, keys: Schedule, at: datetime) -> bytes:
        """Our sealed proof; `transcript` has our identity in it."""
        proof = Proof(
            identity=bytes.fromhex(self._us.history.identity),
            card=bytes.fromhex(self._us.current(at=at).key_id),
            signature=self._us.signer(at=at).sign(transcript.to_sign(role)),
            confirmation=keys.confirmation(role, transcript),
        )
        return proof.seal(keys.message_key(role))

    def _agreed(
        self,
        role: Role,
        them: History,
        card: DatedCard,
        parts: tuple[Schedule, Transcript],
        at: datetime,
    ) -> Agreed:
        keys, transcript = parts
        other: Role = "responder" if role == "initiator" else "initiator"
        secrets = ChannelKeys(
            send=keys.channel_secret(role, transcript),
            receive=keys.channel_secret(other, transcript),
            until=min(at + LIFETIME, card.card.expires),
        )
        channel = Channel(secrets, at=at, most=self._most)
        return Agreed(them, card.key_id, transcript.session, self._purpose, channel)


class Initiator(_Side):
    """The side that calls. `hello`, `prove`, `finish`, in this order."""

    def __init__(
        self,
        us: Identity,
        *,
        to: History,
        purpose: str,
        binding: bytes = b"",
        most: int = MESSAGE_BYTES,
    ) -> None:
        """`binding`: the exporter of the TLS connection around this, the same at both ends.

        `most`: bytes of the longest message in the channel.
        """
        super().__init__(us, purpose=purpose, binding=binding, most=most)
        self._to = to

    def hello(self, *, at: datetime) -> bytes:
        """Message 1."""
        self._take("first")
        self._us.current(at=at)
        self._to.current(at=at)
        self._ephemeral = ephemeral.Ephemeral()
        session = os.urandom(messages.SESSION_BYTES)
        self._hello = Hello(session, self._purpose_bytes, self._ephemeral.share)
        self._next = "prove"
        return self._hello.encode()

    def prove(self, message: bytes, *, at: datetime) -> bytes:
        """Message 2 in, message 3 out: they are who we called."""
        self._take("prove")
        mine, hello = self._ephemeral, self._hello
        del self._ephemeral  # whatever happens now: there is no second secret from this share
        answer, sealed = messages.split_answer(message)
        transcript = self._hello_transcript(hello, answer)
        keys = Schedule(mine.finish(answer), transcript)
        proof = Proof.open(sealed, keys.message_key("responder"))
        if not equal(proof.identity, bytes.fromhex(self._to.identity)):
            raise UnknownPartner(f'somebody else than "{self._to.name}" answered')
        transcript = replace(
            transcript, responder_identity=proof.identity, responder_card=proof.card
        )
        self._card = _check_proof(proof, "responder", self._to, transcript, keys, at=at)
        transcript = replace(
            transcript,
            initiator_identity=bytes.fromhex(self._us.history.identity),
            initiator_card=bytes.fromhex(self._us.current(at=at).key_id),
        )
        self._parts = keys, transcript
        message = messages.join_proof(self._prove("initiator", transcript, keys, at))
        self._next = "finish"
        return message

    def finish(self, message: bytes, *, at: datetime) -> Agreed:
        """Message 4 in: they know who we are, and hold the same keys."""
        self._take("finish")
        keys, transcript = parts = self._parts
        del self._parts
        confirmation = messages.split_confirmation(message)
        _check_confirmation(confirmation, keys.confirmation("responder", transcript))
        return self._agreed("initiator", self._to, self._card, parts, at)


class Responder(_Side):
    """The side that is called. `answer`, `finish`, in this order."""

    def __init__(
        self,
        us: Identity,
        *,
        partners: Callable[[str], History | None],
        purpose: str,
        sessions: SessionBook,
        binding: bytes = b"",
        most: int = MESSAGE_BYTES,
    ) -> None:
        """`partners`: from an identity to its pinned history, or None: those are refused."""
        super().__init__(us, purpose=purpose, binding=binding, most=most)
        self._partners = partners
        self._sessions = sessions

    def answer(self, message: bytes, *, at: datetime) -> bytes:
        """Message 1 in, message 2 out. Nobody is known yet: anyone may have asked."""
        self._take("first")
        hello = Hello.parse(message)
        if hello.purpose != self._purpose_bytes:
            raise Aborted(
                "the caller wants a channel for another purpose", party="initiator", check="purpose"
            )
        self._sessions.admit(hello.session, at=at)
        answer, secret = ephemeral.answer(hello.share)
        transcript = self._hello_transcript(hello, answer)
        keys = Schedule(secret, transcript)
        transcript = replace(
            transcript,
            responder_identity=bytes.fromhex(self._us.history.identity),
            responder_card=bytes.fromhex(self._us.current(at=at).key_id),
        )
        self._parts = keys, transcript
        message = messages.join_answer(answer, self._prove("responder", transcript, keys, at))
        self._next = "finish"
        return message

    def finish(self, message: bytes, *, at: datetime) -> tuple[bytes, Agreed]:
        """Message 3 in, message 4 out: they are a partner, and hold the same keys."""
        self._take("finish")
        keys, transcript = self._parts
        del self._parts
        proof = Proof.open(messages.split_proof(message), keys.message_key("initiator"))
        transcript = replace(
            transcript, initiator_identity=proof.identity, initiator_card=proof.card
        )
        them = self._partners(proof.identity.hex())
        if them is None:
            _pretend(proof, "initiator", self._us.history, transcript)
            raise UnknownPartner("a stranger called", hint="counterseal partner list")
        card = _check_proof(proof, "initiator", them, transcript, keys, at=at)
        confirmation = messages.join_confirmation(keys.confirmation("responder", transcript))
        return confirmation, self._agreed("responder", them, card, (keys, transcript), at)


def _check_proof(
    proof: Proof,
    role: Role,
    them: History,
    transcript: Transcript,
    keys: Schedule,
    *,
    at: datetime,
) -> DatedCard:
    """Return their card in force if they are who they say. `transcript` has who they say."""
    if not equal(proof.card, bytes.fromhex(them.newest.key_id)):
        _pretend(proof, role, them, transcript)
        raise TrustError(
            f'"{them.name}" uses another card than the one that is pinned here',
            hint=f"if they rotated: counterseal partner refresh {them.name} CARD",
        )
    _verify(proof, role, them, transcript)
    _check_confirmation(proof.confirmation, keys.confirmation(role, transcript))
    return them.current(at=at)


def _verify(proof: Proof, role: Role, them: History, transcript: Transcript) -> None:
    them.newest.card.signing.key().verify(transcript.to_sign(role), proof.signature)


def _pretend(proof: Proof, role: Role, them: History, transcript: Transcript) -> None:
    """Take as long as a check would: the time must not tell a prober whom we know."""
    with contextlib.suppress(BadSignature):
        _verify(proof, role, them, transcript)


def _check_confirmation(shown: bytes, expected: bytes) -> None:
    if not equal(shown, expected):
        raise BadSignature("the other side does not hold the keys of this handshake")
