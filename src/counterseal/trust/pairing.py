"""Meet a partner with a short code: two pure state machines, bytes in and bytes out (SPEC 2.9).

    inviter: reads "4711-hobby-valid-actor" aloud, waits at slot 4711
    1 accepter -> inviter   I am here, with a CPace share
    2 inviter -> accepter   my share; I have the code                      one attempt is counted
    3 accepter -> inviter   so have I; my card, encrypted
    4 inviter -> accepter   my card, encrypted                             the code is used up

Rules, in order; the first that fails raises, and nothing more is sent:
1. A message has its exact form and is of this version, this session and the expected step.
2. The inviter answers while the code is open: not used, within its time, attempts left. An
   attempt is gone when the answer is made, whatever follows: who gets an answer can test one
   guess against it. `Reply.save` must be durable before `Reply.send` leaves.
3. Shares are points that make a key (CPace aborts on the others), and not our own come back.
4. Each side has shown that it has the code before the other encrypts or opens any card.
5. The card is a good history, in force now, and not our own.
6. Its key signed the transcript with both cards as far as known, and its role: who has the
   code still cannot pass off somebody else's card as theirs.
7. A code brings one partner.

The transport may repeat a message: it gets the same answer again, and no attempt is counted.
"""

from __future__ import annotations

import os
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final

from counterseal.crypto import cpace, ephemeral
from counterseal.crypto.derive import bind
from counterseal.crypto.digest import sha256
from counterseal.crypto.ephemeral import Ephemeral
from counterseal.crypto.record import open_once, seal_once
from counterseal.errors import Aborted, FormatError, TrustError
from counterseal.trust.pairing_code import Code, Invitation, left
from counterseal.trust.pairing_introduction import introduce, introduced
from counterseal.trust.pairing_messages import (
    SESSION_BYTES,
    TRANSCRIPT_FIELDS,
    VERSION,
    Answer,
    Head,
    Hello,
    Role,
    Schedule,
    Transcript,
    split_confirmed,
)
from counterseal.wire import limits

if TYPE_CHECKING:
    from datetime import datetime

    from counterseal.crypto.cpace import Agreed
    from counterseal.trust.history import History
    from counterseal.trust.identity import Identity

__all__ = ["TRANSCRIPT_FIELDS", "Accepter", "Code", "Invitation", "Inviter", "Paired", "Reply"]

_WRONG_CODE: Final = "the code is not the one that the other side has"


@dataclass(frozen=True, slots=True)
class Paired:
    """A partner whose card may be pinned, what they sent along, and the digest that both sides
    write into their ledgers (hex).
    """

    history: History
    contact: bytes | None
    transcript: str


@dataclass(frozen=True, slots=True)
class Reply:
    """In this order: make `save` durable, pin the partner of `paired` if there is one, send."""

    save: Invitation
    send: bytes
    paired: Paired | None = None


@dataclass(frozen=True, slots=True)
class _Session:
    """An answer that waits for its confirmation."""

    agreed: Agreed
    transcript: Transcript
    schedule: Schedule


class Inviter:
    """The side that made the code. `invitation` is the state that must survive a restart.

    At most as many sessions wait as there were attempts; a restart ends them, uncounted back.
    """

    def __init__(
        self, invitation: Invitation, *, us: Identity, contact: bytes | None = None
    ) -> None:
        self.invitation = invitation
        self._us = us
        self._contact = _checked(contact)
        self._sessions: dict[bytes, _Session] = {}
        self._answered: dict[bytes, Reply] = {}

    def receive(self, message: bytes, *, at: datetime) -> Reply:
        """Answer message 1 or 3; any error leaves `invitation` as it was stored last."""
        head, body = Head.parse(message)
        repeated = self._answered.get(sha256(message))
        if repeated is not None:  # never with its old count: that would undo later attempts
            return replace(repeated, save=self.invitation)
        if head.step == 1:
            reply = self._answer(head.session, Hello.parse(body), at)
        elif head.step == 3:
            reply = self._meet(head.session, *split_confirmed(body), at)
        else:
            raise _aborted("an inviter got an inviter's message", "accepter", "role")
        self.invitation = reply.save
        self._answered[sha256(message)] = reply
        return reply

    def check_alive(self, *, at: datetime) -> None:
        """Raise TrustError once no message could be answered any more: nothing to wait for."""
        if self._sessions:
            self.invitation.check_open(at=at)
        else:
            self.invitation.counted(at=at)

    def _answer(self, session: bytes, hello: Hello, at: datetime) -> Reply:
        counted = self.invitation.counted(at=at)
        self._us.current(at=at)
        if session in self._sessions:
            raise _aborted(
                "a second pairing claims the session of the first", "accepter", "session"
            )
        answer, secret = ephemeral.answer(hello.key)
        attempts = bytes([counted.attempts])
        code = counted.code
        run = cpace.Run(
            code.password,
            role="responder",
            channel=_channel(code.slot),
            session=session,
            data=answer + attempts,
        )
        agreed = run.finish(hello.share, hello.key)
        message = Answer(run.share, answer, attempts, agreed.confirmation)
        transcript = _transcript(code.slot, session, hello, message)
        schedule = Schedule(agreed.isk, secret, transcript)
        self._sessions[session] = _Session(agreed, transcript, schedule)
        return Reply(counted, message.encode(session))

    def _meet(self, session: bytes, confirmation: bytes, sealed: bytes, at: datetime) -> Reply:
        self.invitation.check_open(at=at)
        waiting = self._sessions.pop(session, None)  # one try for each
        if waiting is None:
            raise _aborted("a pairing that nobody began, or that is over", "accepter", "session")
        try:
            waiting.agreed.check(confirmation)
        except TrustError:
            raise TrustError(_WRONG_CODE, hint=self.invitation.left()) from None
        key = waiting.schedule.introduction_key("accepter", waiting.transcript)
        plain = open_once(key, sealed)
        them, contact, seen = introduced(plain, "accepter", waiting.transcript, self._us, at)
        key = waiting.schedule.introduction_key("inviter", seen)
        ours, full = introduce("inviter", seen, self._us, self._contact, at)
        message = Head(4, session).encode() + seal_once(key, ours)
        paired = Paired(them, contact, full.digest.hex())
        return Reply(self.invitation.spent(), _sendable(message), paired)


class Accepter:
    """The side that typed the code. Send `hello`, then what `receive` returns."""

    hello: bytes

    def __init__(
        self, code: Code, *, us: Identity, at: datetime, contact: bytes | None = None
    ) -> None:
        us.current(at=at)
        self._us = us
        self._contact = _checked(contact)
        self._slot = code.slot
        self._session = os.urandom(SESSION_BYTES)
        self._ephemeral = Ephemeral()
        self._run: cpace.Run | None = cpace.Run(
            code.password,
            role="initiator",
            channel=_channel(code.slot),
            session=self._session,
            data=self._ephemeral.share,
        )
        self._hello = Hello(self._run.share, self._ephemeral.share)
        self._met: tuple[Transcript, Schedule] | None = None
        self._answered: dict[bytes, bytes | Paired] = {}
        self.hello = self._hello.encode(self._session)

    def receive(self, message: bytes, *, at: datetime) -> bytes | Paired:
        """Message 3 for message 2, to be sent; the partner for message 4."""
        head, body = Head.parse(message)
        repeated = self._answered.get(sha256(message))
        if repeated is not None:
            return repeated
        if head.session != self._session:
            raise _aborted("a message of another pairing", "inviter", "session")
        result: bytes | Paired
        if head.step == 2:
            result = self._confirm(Answer.parse(body), at)
        elif head.step == 4:
            result = self._meet(body, at)
        else:
            raise _aborted("an accepter got an accepter's message", "inviter", "role")
        self._answered[sha256(message)] = result
        return result

    def _confirm(self, answer: Answer, at: datetime) -> bytes:
        if answer.share == self._hello.share:
            raise _aborted("our own share came back", "inviter", "reflection")
        run, self._run = self._run, None  # one guess for whoever plays the inviter
        if run is None:
            raise _aborted("a second answer in one pairing", "inviter", "order")
        agreed = run.finish(answer.share, answer.answer + answer.attempts)
        try:
            agreed.check(answer.confirmation)
        except TrustError:
            attempts = answer.attempts[0]  # as they say; without the code it proves nothing
            hint = f"check each word: {left(attempts)}" if attempts else "ask for a new code"
            raise TrustError(_WRONG_CODE, hint=hint) from None
        early = _transcript(self._slot, self._session, self._hello, answer)
        schedule = Schedule(agreed.isk, self._ephemeral.finish(answer.answer), early)
        ours, seen = introduce("accepter", early, self._us, self._contact, at)
        sealed = seal_once(schedule.introduction_key("accepter", early), ours)
        message = Head(3, self._session).encode() + agreed.confirmation + sealed
        self._met = seen, schedule
        return _sendable(message)

    def _meet(self, sealed: bytes, at: datetime) -> Paired:
        if self._met is None:
            raise _aborted("a card before the code was confirmed", "inviter", "order")
        seen, schedule = self._met
        plain = open_once(schedule.introduction_key("inviter", seen), sealed)
        them, contact, full = introduced(plain, "inviter", seen, self._us, at)
        return Paired(them, contact, full.digest.hex())


def _channel(slot: int) -> bytes:
    """CPace's channel identifier: protocol, version, slot, and the roles in order."""
    return bind("pairing", bytes([VERSION]), slot.to_bytes(2, "big"), b"accepter", b"inviter")


def _transcript(slot: int, session: bytes, hello: Hello, answer: Answer) -> Transcript:
    return Transcript(
        version=bytes([VERSION]),
        slot=slot.to_bytes(2, "big"),
        session=session,
        accepter_share=hello.share,
        accepter_key=hello.key,
        inviter_share=answer.share,
        inviter_answer=answer.answer,
        attempts=answer.attempts,
    )


def _checked(contact: bytes | None) -> bytes | None:
    if contact is not None and not 1 <= len(contact) <= limits.PAIRING_CONTACT_BYTES:
        raise FormatError(f"a contact has 1 to {limits.PAIRING_CONTACT_BYTES} bytes")
    return contact


def _sendable(message: bytes) -> bytes:
    if len(message) > limits.PAIRING_MESSAGE_BYTES:
        raise FormatError(
            "our card has too long a history for a pairing",
            hint="hand it over as a file and compare key ids: counterseal id card",
        )
    return message


def _aborted(message: str, party: Role, check: str) -> Aborted:
    return Aborted(message, party=party, check=check)
