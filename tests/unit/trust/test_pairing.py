"""Meeting a partner with a code: what goes right, and what each side says when it does not."""

from dataclasses import fields, replace
from datetime import UTC, datetime, timedelta
from functools import cache

import msgspec
import pytest

from counterseal.crypto.derive import bind
from counterseal.crypto.digest import sha256
from counterseal.errors import (
    Aborted,
    ExpiredKey,
    FormatError,
    RevokedKey,
    TrustError,
    UnknownVersion,
)
from counterseal.trust import keyid, pairing_messages
from counterseal.trust.history import History
from counterseal.trust.identity import Identity
from counterseal.trust.pairing import (
    TRANSCRIPT_FIELDS,
    Accepter,
    Code,
    Invitation,
    Inviter,
    Paired,
)
from counterseal.trust.pairing_code import ATTEMPTS, LIFETIME
from counterseal.trust.pairing_messages import Transcript
from counterseal.wire import limits

AT = datetime(2026, 6, 1, 12, tzinfo=UTC)
DAY = timedelta(days=1)


@cache
def identity(name):
    """Shared: no test changes it."""
    return Identity.create(name, hardware=name == "token", at=AT - DAY)


def invite(*, us="lab", contact=None, **more):
    return Inviter(Invitation.create(at=AT, **more), us=identity(us), contact=contact)


def accept(inviter, *, us="clinic", typed=None, **more):
    code = inviter.invitation.code if typed is None else Code.parse(typed)
    return Accepter(code, us=identity(us), at=AT, **more)


def meet(inviter, accepter, *, at=AT):
    """The honest exchange; what the inviter and the accepter know at the end."""
    reply = inviter.receive(accepter.hello, at=at)
    reply = inviter.receive(accepter.receive(reply.send, at=at), at=at)
    return reply.paired, accepter.receive(reply.send, at=at)


def another_word(words, place=0):
    """The code with one word misheard."""
    wrong = next(word for word in keyid.word_list() if word not in words)
    return (*words[:place], wrong, *words[place + 1 :])


def typed(invitation, **changes):
    return replace(invitation.code, **changes).spoken


# --- codes ----------------------------------------------------------------------------------


def test_a_code_is_a_slot_and_three_words():
    for words in (3, 4):
        code = Code.make(words=words)
        slot, *said = code.spoken.split("-")
        assert 1 <= int(slot) <= 9999
        assert len(said) == words
        assert set(said) <= set(keyid.word_list())
        assert code.password == "-".join(said).encode()
        assert slot not in code.password.decode()


def test_codes_differ():
    codes = [Code.make() for _ in range(50)]
    assert len({code.words for code in codes}) == 50
    assert len({code.slot for code in codes}) > 25


def test_a_relay_may_give_the_slot():
    assert Code.make(slot=17).slot == 17
    assert Invitation.create(at=AT, slot=17).code.spoken.startswith("17-")


@pytest.mark.parametrize(
    "said",
    [
        "4711-hobby-valid-actor",
        "4711 hobby valid actor",
        "  4711 Hobby, VALID. actor\n",
        "4711_hobby--valid – actor".replace("–", "-"),
        "4711\thobby\u00a0valid actor",
    ],
)
def test_a_code_is_read_as_people_type(said):
    assert Code.parse(said) == Code(4711, ("hobby", "valid", "actor"))


@pytest.mark.parametrize(
    "said",
    [
        "",
        "4711",
        "hobby-valid-actor",
        "4711-hobby-valid",
        "4711-hobby-valid-actor-actor-actor",
        "0-hobby-valid-actor",
        "10000-hobby-valid-actor",
        "-4711-hobby-valid-actor-x",
        "४७११-hobby-valid-actor",
        "4711-hobby-valid-\udcff",
        "4711-hobby-valid-áctor",
        "4" * 5000,
    ],
    ids=lambda said: ascii(said)[:30],
)
def test_what_is_not_a_code(said):
    with pytest.raises(FormatError):
        Code.parse(said)


def test_a_mistyped_word_is_told_at_once():
    with pytest.raises(FormatError) as caught:
        Code.parse("4711-hobbi-valid-actor")
    assert caught.value.hint == "did you mean hobby?"


def test_a_code_has_no_repr():
    code = Code.make()
    invitation = Invitation.create(at=AT)
    assert all(word not in repr(code) for word in code.words)
    assert all(word not in repr(invitation) for word in invitation.words)
    with pytest.raises(ValueError, match="three or four"):
        Code.make(words=2)


# --- invitations ----------------------------------------------------------------------------


def test_an_invitation_survives_storing():
    invitation = Invitation.create(at=AT, words=4).counted(at=AT)
    assert Invitation.parse(invitation.encode()) == invitation
    assert invitation.attempts == ATTEMPTS - 1
    assert invitation.expires == AT + LIFETIME


@pytest.mark.parametrize(
    "change",
    [
        {"attempts": 4},
        {"attempts": -1},
        {"slot": 0},
        {"words": ("hobby", "valid")},
        {"words": ("hobby", "valid", "notaword")},
    ],
)
def test_an_invitation_that_was_never_made_is_not_read(change):
    fields = msgspec.to_builtins(Invitation.create(at=AT)) | change
    with pytest.raises(FormatError):
        Invitation.parse(msgspec.json.encode(fields, order="sorted"))


def test_an_invitation_ends():
    invitation = Invitation.create(at=AT, lifetime=timedelta(minutes=5))
    invitation.counted(at=AT + timedelta(minutes=5))
    with pytest.raises(TrustError, match="ended at 2026-06-01 12:05"):
        invitation.counted(at=AT + timedelta(minutes=5, seconds=1))


# --- the meeting ----------------------------------------------------------------------------


@pytest.mark.parametrize("words", [3, 4])
@pytest.mark.parametrize(("us", "them"), [("lab", "clinic"), ("token", "clinic"), ("lab", "token")])
def test_both_learn_the_other_and_the_same_transcript(us, them, words):
    inviter = invite(us=us, words=words)
    at_inviter, at_accepter = meet(inviter, accept(inviter, us=them))
    assert at_inviter.history == identity(them).history
    assert at_accepter.history == identity(us).history
    assert at_inviter.transcript == at_accepter.transcript
    assert len(bytes.fromhex(at_inviter.transcript)) == 32
    assert at_inviter.contact is at_accepter.contact is None


def test_each_may_send_something_along():
    inviter = invite(contact=b"relay")
    at_inviter, at_accepter = meet(inviter, accept(inviter, contact=b"\0" * 65536))
    assert at_accepter.contact == b"relay"
    assert at_inviter.contact == b"\0" * 65536
    for contact in (b"", bytes(limits.PAIRING_CONTACT_BYTES + 1)):
        with pytest.raises(FormatError):
            invite(contact=contact)
        with pytest.raises(FormatError):
            accept(inviter, contact=contact)


def test_a_history_comes_as_a_whole():
    old = Identity.create("old", at=AT - DAY)
    old.rotate(at=AT)
    inviter = Inviter(Invitation.create(at=AT), us=old)
    _, at_accepter = meet(inviter, accept(inviter))
    assert at_accepter.history == old.history
    assert len(at_accepter.history.cards) == 2


def test_transcripts_of_two_meetings_differ():
    assert len({meet(one, accept(one))[0].transcript for one in (invite(), invite())}) == 2


def test_messages_have_the_documented_lengths():
    inviter = invite()
    accepter = accept(inviter)
    assert len(accepter.hello) == 1282
    assert len(inviter.receive(accepter.hello, at=AT).send) == 1251


def test_the_state_to_store_comes_with_each_answer():
    inviter = invite()
    accepter = accept(inviter)
    first = inviter.receive(accepter.hello, at=AT)
    assert (first.save.attempts, first.save.used, first.paired) == (2, False, None)
    second = inviter.receive(accepter.receive(first.send, at=AT), at=AT)
    assert (second.save.attempts, second.save.used) == (0, True)
    assert inviter.invitation == second.save
    with pytest.raises(TrustError, match="was used") as caught:
        Inviter(second.save, us=identity("lab")).receive(accept(inviter).hello, at=AT)
    assert "partner invite" in caught.value.hint


@pytest.mark.parametrize("place", [0, 1, 2])
def test_a_wrong_word_is_told_to_the_accepter_with_the_attempts_that_are_left(place):
    inviter = invite()
    wrong = typed(inviter.invitation, words=another_word(inviter.invitation.words, place))
    for hint in ("2 attempts left", "1 attempt left", "ask for a new code"):
        accepter = accept(inviter, typed=wrong)
        answer = inviter.receive(accepter.hello, at=AT).send
        with pytest.raises(TrustError) as caught:
            accepter.receive(answer, at=AT)
        assert hint in caught.value.hint
    with pytest.raises(TrustError, match="dead after 3 attempts"):
        inviter.receive(accept(inviter).hello, at=AT)


def test_a_wrong_confirmation_is_told_to_the_inviter_with_the_attempts_that_are_left():
    inviter = invite()
    for hint in ("2 attempts left", "1 attempt left", "make a new code"):
        accepter = accept(inviter)
        message = accepter.receive(inviter.receive(accepter.hello, at=AT).send, at=AT)
        changed = message[:34] + bytes(64) + message[98:]
        with pytest.raises(TrustError) as caught:
            inviter.receive(changed, at=AT)
        assert hint in caught.value.hint


def test_a_partner_who_mistypes_once_may_try_again():
    inviter = invite()
    wrong = typed(inviter.invitation, words=another_word(inviter.invitation.words))
    inviter.receive(accept(inviter, typed=wrong).hello, at=AT)
    assert meet(inviter, accept(inviter))[0].history == identity("clinic").history


def test_the_last_attempt_still_pairs():
    inviter = invite()
    for _ in range(2):
        inviter.receive(accept(inviter).hello, at=AT)
    assert meet(inviter, accept(inviter))[0].history == identity("clinic").history


def test_sessions_that_wait_do_not_disturb_each_other():
    inviter = invite()
    first, second = accept(inviter), accept(inviter, us="token")
    answers = [inviter.receive(one.hello, at=AT).send for one in (first, second)]
    message = first.receive(answers[0], at=AT)
    assert inviter.receive(message, at=AT).paired.history == identity("clinic").history
    with pytest.raises(TrustError, match="one partner"):
        inviter.receive(second.receive(answers[1], at=AT), at=AT)


def test_a_repeated_message_gets_the_same_answer_and_costs_nothing():
    inviter = invite()
    accepter = accept(inviter)
    first = inviter.receive(accepter.hello, at=AT)
    assert inviter.receive(accepter.hello, at=AT) == first
    message = accepter.receive(first.send, at=AT)
    assert accepter.receive(first.send, at=AT) == message
    second = inviter.receive(message, at=AT)
    assert inviter.receive(message, at=AT) == second
    assert inviter.receive(accepter.hello, at=AT) == replace(first, save=second.save)
    paired = accepter.receive(second.send, at=AT)
    assert isinstance(paired, Paired)
    assert accepter.receive(second.send, at=AT) == paired


def test_an_inviter_knows_when_to_stop_waiting():
    inviter = invite()
    for _ in range(ATTEMPTS):
        inviter.check_alive(at=AT)
        accepter = accept(inviter)
        answer = inviter.receive(accepter.hello, at=AT).send
    inviter.check_alive(at=AT)  # the third attempt may still be confirmed
    with pytest.raises(TrustError):
        inviter.check_alive(at=AT + 2 * LIFETIME)
    with pytest.raises(TrustError, match="dead"):
        Inviter(inviter.invitation, us=identity("lab")).check_alive(at=AT)
    inviter.receive(accepter.receive(answer, at=AT), at=AT)
    with pytest.raises(TrustError, match="was used"):
        inviter.check_alive(at=AT)


# --- refused on the way ---------------------------------------------------------------------


def halfway():
    """(inviter, accepter, messages 1 to 4 of their meeting)."""
    inviter = invite()
    accepter = accept(inviter)
    second = inviter.receive(accepter.hello, at=AT).send
    third = accepter.receive(second, at=AT)
    return inviter, accepter, [accepter.hello, second, third, inviter.receive(third, at=AT).send]


@pytest.mark.parametrize(
    ("to", "number", "check"),
    [
        ("inviter", 2, "role"),
        ("inviter", 3, "session"),
        ("inviter", 4, "role"),
        ("accepter", 1, "session"),
        ("accepter", 2, "session"),
        ("accepter", 4, "session"),
    ],
)
def test_messages_of_another_meeting_are_refused(to, number, check):
    message = halfway()[2][number - 1]
    inviter = invite()
    with pytest.raises(Aborted) as caught:
        (inviter if to == "inviter" else accept(inviter)).receive(message, at=AT)
    assert caught.value.check == check
    assert inviter.invitation.attempts == ATTEMPTS


def test_an_accepter_refuses_messages_out_of_order():
    inviter = invite()
    accepter = accept(inviter)
    reply = inviter.receive(accepter.hello, at=AT)
    last = reply.send[:1].replace(b"\2", b"\4") + reply.send[1:]
    with pytest.raises(Aborted) as caught:
        accepter.receive(last, at=AT)
    assert caught.value.check == "order"
    with pytest.raises(Aborted) as caught:
        accepter.receive(accepter.hello, at=AT)
    assert caught.value.check == "role"


def test_a_session_is_claimed_once():
    inviter = invite()
    accepter = accept(inviter)
    inviter.receive(accepter.hello, at=AT)
    with pytest.raises(Aborted) as caught:
        inviter.receive(accepter.hello[:34] + accept(inviter).hello[34:], at=AT)
    assert caught.value.check == "session"


@pytest.mark.parametrize("number", [1, 2, 3, 4])
def test_a_message_of_another_version_is_told_apart(number):
    _, _, messages = halfway()
    message = messages[number - 1]
    changed = message[:1] + b"\2" + message[2:]
    inviter = invite()
    with pytest.raises(UnknownVersion):
        (inviter if number % 2 else accept(inviter)).receive(changed, at=AT)


@pytest.mark.parametrize("length", [0, 1, 33, 34, 35, 98, 1281, 1283])
@pytest.mark.parametrize("step", [1, 3])
def test_an_inviter_refuses_wrong_lengths(step, length):
    inviter = invite()
    with pytest.raises((FormatError, Aborted)):
        inviter.receive((bytes([step, 1]) + bytes(length))[:length], at=AT)
    assert inviter.invitation.attempts == ATTEMPTS


def test_a_message_has_a_limit():
    inviter = invite()
    with pytest.raises(FormatError, match="too long"):
        inviter.receive(b"\3\1" + bytes(limits.PAIRING_MESSAGE_BYTES), at=AT)


def test_an_answer_with_more_attempts_than_there_are_is_refused():
    inviter = invite()
    accepter = accept(inviter)
    answer = bytearray(inviter.receive(accepter.hello, at=AT).send)
    answer[-65] = ATTEMPTS
    with pytest.raises(FormatError):
        accepter.receive(bytes(answer), at=AT)


def test_our_own_card_is_refused():
    inviter = invite()
    accepter = accept(inviter, us="lab")
    message = accepter.receive(inviter.receive(accepter.hello, at=AT).send, at=AT)
    with pytest.raises(TrustError, match="our own card"):
        inviter.receive(message, at=AT)


def test_we_do_not_offer_a_card_that_has_ended():
    later = AT + 400 * DAY
    with pytest.raises(ExpiredKey, match="our own"):
        Accepter(Code.make(), us=identity("lab"), at=later)
    inviter = Inviter(Invitation.create(at=later), us=identity("lab"))
    with pytest.raises(ExpiredKey, match="our own"):
        inviter.receive(accept(inviter).hello, at=later)
    assert inviter.invitation.attempts == ATTEMPTS


class Showing:
    """An identity that introduces itself with some history, whatever it is worth."""

    def __init__(self, us, history):
        self._us, self.history = us, history

    def card(self):
        return self.history.document

    def current(self, *, at):
        return self._us.history.newest

    def sign(self, document, payload_type, *, at):
        return self._us.sign(document, payload_type, at=AT)


def revoked():
    them = Identity.create("them", at=AT - DAY)
    before = Identity.__new__(Identity)  # still has the keys and does not know
    before.__dict__.update(them.__dict__, history=them.history)
    them.revoke(reason="compromised", at=AT)
    return before, them.history


@pytest.mark.parametrize("side", ["inviter", "accepter"])
@pytest.mark.parametrize(
    ("what", "error"), [("revoked", RevokedKey), ("ended", ExpiredKey), ("future", TrustError)]
)
def test_a_card_that_is_not_in_force_is_refused(side, what, error):
    at = AT
    if what == "revoked":
        them = Showing(*revoked())
    elif what == "ended":
        them = Showing(identity("clinic"), identity("clinic").history)
        at = AT + 400 * DAY
    else:
        late = Identity.create("late", at=AT + DAY)
        late.sign = lambda document, kind, *, at: Identity.sign(late, document, kind, at=AT + DAY)
        them = Showing(late, late.history)
        late.current = lambda *, at: late.history.newest
    us = Identity.create("us", at=at - DAY)
    invitation = Invitation.create(at=at)
    inviter = Inviter(invitation, us=us if side == "inviter" else them)
    accepter = Accepter(invitation.code, us=them if side == "inviter" else us, at=at)
    message = accepter.receive(inviter.receive(accepter.hello, at=at).send, at=at)
    with pytest.raises(error) as caught:
        accepter.receive(inviter.receive(message, at=at).send, at=at)
    if error is not TrustError:
        assert "pair with a new code" in caught.value.hint


def test_a_history_that_is_none_is_refused():
    clinic = identity("clinic")
    document = msgspec.structs.replace(
        clinic.card(), cards=(*clinic.card().cards, *identity("token").card().cards)
    )
    inviter = invite()
    bad = Showing(clinic, History(clinic.history.cards, document))
    accepter = Accepter(inviter.invitation.code, us=bad, at=AT)
    message = accepter.receive(inviter.receive(accepter.hello, at=AT).send, at=AT)
    with pytest.raises(FormatError):
        inviter.receive(message, at=AT)


# --- what the model in docs/formal stands on ------------------------------------------------


def test_the_transcript_is_hashed_over_all_its_fields_in_this_order():
    assert tuple(field.name for field in fields(Transcript)) == TRANSCRIPT_FIELDS
    values = [bytes([n]) * n for n in range(len(TRANSCRIPT_FIELDS))]
    transcript = Transcript(*values)
    assert transcript.digest == sha256(bind("pairing transcript", *values))


@pytest.mark.parametrize("field", TRANSCRIPT_FIELDS)
def test_every_field_of_the_transcript_counts(field):
    transcript = Transcript(*(b"x" for _ in TRANSCRIPT_FIELDS))
    changed = replace(transcript, **{field: b"y"})
    assert changed.digest != transcript.digest
    schedules = [pairing_messages.Schedule(b"isk", b"kem", one) for one in (transcript, changed)]
    keys = {
        schedule.introduction_key(role, one)
        for schedule in schedules
        for one in (transcript, changed)
        for role in ("accepter", "inviter")
    }
    assert len(keys) == 8
