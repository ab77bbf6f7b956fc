import contextlib
from dataclasses import fields, replace
from datetime import timedelta

import pytest
from parley import AT, Parley, agree

from counterseal.crypto.signing import VerifyKey
from counterseal.errors import (
    Aborted,
    BadCiphertext,
    ExpiredKey,
    FormatError,
    ReplayedMessage,
    RevokedKey,
    TrustError,
    UnknownPartner,
    UnknownVersion,
)
from counterseal.exchange import handshake_messages as messages
from counterseal.exchange.handshake import TRANSCRIPT_FIELDS, Initiator, Responder
from counterseal.exchange.sessionbook import SessionBook
from counterseal.exchange.transcript import Schedule, Transcript
from counterseal.trust.identity import Identity


def test_two_partners_agree(cast):
    ours, theirs = agree(cast.lab, cast.clinic, purpose="model-transfer")
    assert ours.session == theirs.session
    assert len(ours.session) == 32
    assert ours.purpose == theirs.purpose == "model-transfer"
    assert ours.partner is cast.clinic.history
    assert theirs.partner is cast.lab.history
    assert ours.card == cast.clinic.key_id
    assert theirs.card == cast.lab.key_id
    (frame,) = ours.channel.seal(b"hello", at=AT)
    assert theirs.channel.open(frame, at=AT) == b"hello"
    (frame,) = theirs.channel.seal(b"and you", at=AT)
    assert ours.channel.open(frame, at=AT) == b"and you"


@pytest.mark.parametrize("hardware", [("lab",), ("clinic",), ("lab", "clinic")])
def test_messages_have_one_length_whatever_the_suite(hardware):
    import workshop

    cast = workshop.Cast(hardware=hardware)
    parley = Parley(cast.lab, cast.clinic)
    parley.run()
    assert [len(message) for message in parley.messages] == [
        messages.HELLO_BYTES,
        messages.ANSWER_MESSAGE_BYTES,
        messages.PROOF_MESSAGE_BYTES,
        messages.CONFIRMATION_MESSAGE_BYTES,
    ]
    assert messages.HELLO_BYTES == 1283
    assert messages.ANSWER_MESSAGE_BYTES == 4606
    assert messages.PROOF_MESSAGE_BYTES == 3486
    assert messages.CONFIRMATION_MESSAGE_BYTES == 33


def test_sessions_have_nothing_in_common(cast):
    one, two = Parley(cast.lab, cast.clinic), Parley(cast.lab, cast.clinic)
    one.run()
    two.run()
    assert one.ours.session != two.ours.session
    for left, right in zip(one.messages, two.messages, strict=True):
        assert left != right


def test_the_transcript_is_all_of_its_fields():
    assert tuple(field.name for field in fields(Transcript)) == TRANSCRIPT_FIELDS
    assert len(set(TRANSCRIPT_FIELDS)) == len(TRANSCRIPT_FIELDS) == 11
    blank = Transcript(*[b""] * len(TRANSCRIPT_FIELDS))
    seen = {blank.digest, blank.to_sign("initiator"), blank.to_sign("responder")}
    for name in TRANSCRIPT_FIELDS:
        changed = replace(blank, **{name: b"x"})
        seen |= {changed.digest, changed.to_sign("initiator"), changed.to_sign("responder")}
    assert len(seen) == 3 * (1 + len(TRANSCRIPT_FIELDS))


def test_every_key_has_its_own_purpose():
    blank = Transcript(*[b""] * len(TRANSCRIPT_FIELDS))
    keys = Schedule(bytes(32), blank)
    made = {
        function(role, *rest)
        for role in ("initiator", "responder")
        for function, rest in (
            (keys.message_key, ()),
            (keys.confirmation, (blank,)),
            (keys.channel_secret, (blank,)),
        )
    }
    assert len(made) == 6
    assert repr(keys) == "<Schedule>"


def test_each_step_once_and_in_order(cast):
    parley = Parley(cast.lab, cast.clinic)
    initiator, responder = parley.initiator, parley.responder
    with pytest.raises(RuntimeError):
        initiator.prove(b"", at=AT)
    with pytest.raises(RuntimeError):
        responder.finish(b"", at=AT)
    hello = initiator.hello(at=AT)
    with pytest.raises(RuntimeError):
        initiator.hello(at=AT)
    answer = responder.answer(hello, at=AT)
    with pytest.raises(RuntimeError):
        responder.answer(hello, at=AT)
    proof = initiator.prove(answer, at=AT)
    with pytest.raises(RuntimeError):
        initiator.prove(answer, at=AT)
    confirmation, _ = responder.finish(proof, at=AT)
    initiator.finish(confirmation, at=AT)
    with pytest.raises(RuntimeError):
        initiator.finish(confirmation, at=AT)


def test_after_an_error_nothing_goes_on(cast):
    parley = Parley(cast.lab, cast.clinic)
    hello = parley.initiator.hello(at=AT)
    answer = parley.responder.answer(hello, at=AT)
    with pytest.raises(BadCiphertext):
        parley.initiator.prove(answer[:-1] + bytes([answer[-1] ^ 1]), at=AT)
    with pytest.raises(RuntimeError):
        parley.initiator.prove(answer, at=AT)
    with pytest.raises(BadCiphertext):
        parley.responder.finish(b"\x03" + bytes(messages.PROOF_MESSAGE_BYTES - 1), at=AT)
    with pytest.raises(RuntimeError):
        parley.responder.finish(b"", at=AT)


@pytest.mark.parametrize("step", range(4))
@pytest.mark.parametrize("length", ["cut", "long", "empty", "kind"])
def test_a_message_of_another_form_is_refused(cast, step, length):
    def change(number, message):
        if number != step:
            return message
        return {
            "cut": message[:-1],
            "long": message + b"\0",
            "empty": b"",
            "kind": bytes([message[0] ^ 0x40]) + message[1:],
        }[length]

    with pytest.raises(FormatError):
        Parley(cast.lab, cast.clinic, between=change).run()


@pytest.mark.parametrize("place", [1, 2])
def test_another_version_or_suite_is_not_guessed(cast, place):
    def change(number, message):
        if number == 0:
            message = message[:place] + b"\x02" + message[place + 1 :]
        return message

    with pytest.raises(UnknownVersion):
        Parley(cast.lab, cast.clinic, between=change).run()
    with pytest.raises(UnknownVersion):  # even if all the rest is different there
        messages.Hello.parse(b"\x01\x02\x01")


def test_purposes(cast):
    for purpose in ("", "Model", "a b", "a" * 33, "-x", "x\0", "\u00e9"):
        with pytest.raises(ValueError, match="purpose"):
            Initiator(cast.lab, to=cast.clinic.history, purpose=purpose)
    agree(cast.lab, cast.clinic, purpose="a" * 32)
    with pytest.raises(Aborted) as caught:
        Parley(cast.lab, cast.clinic, purpose="one", their_purpose="other").run()
    assert caught.value.check == "purpose"


def test_a_purpose_with_something_behind_the_zeros_is_refused(cast):
    def change(number, message):
        if number == 0:
            message = message[:66] + b"x" + message[67:]
        return message

    with pytest.raises(FormatError):
        Parley(cast.lab, cast.clinic, between=change).run()


def test_a_stranger_is_refused(cast):
    with pytest.raises(UnknownPartner):
        Parley(cast.rival, cast.clinic, known=[cast.lab]).run()


def test_a_stranger_costs_as_much_as_a_partner(cast, monkeypatch):
    """Else the time would tell a prober whether somebody is a partner of ours."""
    count, honest = [0], VerifyKey.verify

    def verify(self, message, signature):
        count[0] += 1
        honest(self, message, signature)

    monkeypatch.setattr(VerifyKey, "verify", verify)
    costs = []
    renewed = Identity.create("renewed", at=AT)
    old = renewed.history
    renewed.rotate(at=AT)
    for caller, known in ((cast.lab, [cast.lab]), (cast.lab, []), (renewed, [old])):
        before = count[0]
        with contextlib.suppress(TrustError):
            Parley(caller, cast.clinic, known=known).run()
        costs.append(count[0] - before)
    assert costs == [2, 2, 2]  # one at each side


def test_somebody_else_answers(cast):
    with pytest.raises(UnknownPartner):
        Parley(cast.lab, cast.rival, to=cast.clinic.history).run()


def test_our_own_card_has_ended(cast):
    late = AT + timedelta(days=400)
    with pytest.raises(ExpiredKey, match="our own"):
        Parley(cast.lab, cast.clinic, at=late).run()


def test_their_card_has_ended(cast):
    fresh = Identity.create("fresh", at=AT + timedelta(days=300))
    late = AT + timedelta(days=400)
    with pytest.raises(ExpiredKey):
        Parley(fresh, cast.clinic, at=late).run()
    with pytest.raises(ExpiredKey):
        Parley(cast.lab, fresh, at=late, ends=("responder",)).run()


def test_a_revoked_card_neither_calls_nor_is_called(cast):
    pinned = cast.clinic.history
    cast.clinic.revoke(reason="compromised", at=AT)
    with pytest.raises(RevokedKey):
        Parley(cast.lab, cast.clinic).run()
    cast.clinic.history, revoked = pinned, cast.clinic.history  # the thief goes on with it
    with pytest.raises(RevokedKey):
        Parley(cast.clinic, cast.lab, known=[revoked]).run()


def test_after_a_rotation_the_new_card_has_to_be_known(cast):
    old = cast.clinic.history
    cast.clinic.rotate(at=AT)
    with pytest.raises(TrustError, match="another card"):
        Parley(cast.lab, cast.clinic, to=old).run()
    agree(cast.lab, cast.clinic)


def test_a_channel_ends_with_the_card_or_after_a_day(cast):
    ours, _ = agree(cast.lab, cast.clinic)
    assert ours.channel._until == AT + timedelta(days=1)
    late = cast.clinic.history.newest.card.expires - timedelta(hours=1)
    ours, _ = agree(cast.lab, cast.clinic, at=late)
    assert ours.channel._until == cast.clinic.history.newest.card.expires


def test_a_binding_has_to_be_the_same(cast):
    agree(cast.lab, cast.clinic, binding=b"exporter", their_binding=b"exporter")
    with pytest.raises(BadCiphertext):
        agree(cast.lab, cast.clinic, binding=b"exporter", their_binding=b"")


def test_nothing_secret_in_repr(cast):
    ours, _ = agree(cast.lab, cast.clinic)
    assert "secret" not in repr(ours)
    assert repr(ours.channel) == "<Channel open>"
    assert repr(ours.channel._sealer) == "<Sealer>"


class TestSessionBook:
    def test_once_within_the_window(self):
        book = SessionBook(window=timedelta(minutes=10))
        book.admit(b"a" * 32, at=AT)
        with pytest.raises(ReplayedMessage):
            book.admit(b"a" * 32, at=AT + timedelta(minutes=10))
        book.admit(b"a" * 32, at=AT + timedelta(minutes=21))

    def test_it_forgets_and_stays_small(self):
        book = SessionBook(most=10)
        for number in range(100):
            book.admit(number.to_bytes(32, "big"), at=AT)
            assert len(book) <= 10
        book.admit(b"x" * 32, at=AT + timedelta(hours=1))
        assert len(book) == 1

    def test_a_clock_that_goes_back_breaks_nothing(self):
        book = SessionBook()
        book.admit(b"a" * 32, at=AT)
        book.admit(b"b" * 32, at=AT - timedelta(hours=1))
        with pytest.raises(ReplayedMessage):
            book.admit(b"a" * 32, at=AT)


def test_a_responder_answers_a_session_once(cast):
    sessions = SessionBook()
    parley = Parley(cast.lab, cast.clinic, sessions=sessions)
    parley.run()
    again = Responder(cast.clinic, partners={}.get, purpose="test", sessions=sessions)
    with pytest.raises(ReplayedMessage):
        again.answer(parley.messages[0], at=AT)
