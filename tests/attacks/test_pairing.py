"""Attacks on a pairing by code: by the relay, by guessers, by partners who have the code.

lab invites clinic. rival has keys of its own and sits on the line; where a row says so, it also
has the code. What the attacker wants: to be pinned as the partner, to have somebody else's card
pinned as theirs, or one more guess than there are attempts.
"""

from dataclasses import replace

import msgspec
import pytest
from workshop import AT, DAY, Cut, attack, flip, undefended

from counterseal.crypto import cpace, ephemeral
from counterseal.crypto.ephemeral import Ephemeral
from counterseal.crypto.record import seal_once
from counterseal.errors import Aborted, BadCiphertext, BadSignature, TrustError
from counterseal.trust import pairing, pairing_introduction
from counterseal.trust.pairing import Accepter, Code, Invitation, Inviter
from counterseal.trust.pairing_code import ATTEMPTS
from counterseal.trust.pairing_messages import Answer, Head, Hello, Schedule

PAIRING = "counterseal.trust.pairing:"
CODE = "counterseal.trust.pairing_code:"
MESSAGES = "counterseal.trust.pairing_messages:"
CPACE = "counterseal.crypto.cpace:"

NO_PASSWORD = Cut(CPACE + "_generator", "_lv_cat(_DSI, password, padding", '_lv_cat(_DSI, b"", b""')
NO_ABORT = Cut(CPACE + "_multiply", "raise _unusable(sender) from None", "return bytes(32)")
NO_CONFIRMATION = Cut(CPACE + "Agreed.check", "not equal(confirmation, self.expected)", "False")
NO_SCALAR_ONCE = Cut(
    CPACE + "Run.finish", "scalar, self._scalar = self._scalar, None", "scalar = self._scalar"
)
NO_GUESS_ONCE = Cut(
    PAIRING + "Accepter._confirm", "run, self._run = self._run, None", "run = self._run"
)
NO_COUNT = Cut(CODE + "Invitation.counted", "attempts=self.attempts - 1", "attempts=self.attempts")
OLD_COUNT = Cut(PAIRING + "Inviter.receive", "replace(repeated, save=self.invitation)", "repeated")
NO_ONE_PARTNER = Cut(PAIRING + "Inviter._meet", "self.invitation.check_open(at=at)")
NO_AEAD = Cut(
    PAIRING + "open_once",
    "AESGCM(key).decrypt(bytes(_NONCE_BYTES), sealed, None)",
    "sealed",
)
NO_PROOF = Cut(
    PAIRING + "introduced",
    "signed.verify(document.proof, PROOF_TYPE, by=_key_in_force(history, at))",
)
ANY_PROOF = Cut(
    PAIRING + "introduced",
    "document.proof.payload != canonical.encode(_proof(role, seen))",
    "False",
)
OWN_CARD = Cut(PAIRING + "introduced", "history.identity == us.history.identity", "False")
ONE_KEY = Cut(
    MESSAGES + "Schedule.introduction_key", "role.encode(), transcript.digest", 'b"", b""'
)
NO_SLOT_IN_CHANNEL = Cut(PAIRING + "_channel", 'slot.to_bytes(2, "big")', 'b""')
NO_SLOT_IN_TRANSCRIPT = Cut(PAIRING + "_transcript", 'slot.to_bytes(2, "big")', 'b""')
NO_REFLECTION = Cut(PAIRING + "Accepter._confirm", "answer.share == self._hello.share", "False")


def invitation(**more):
    return Invitation.create(at=AT, **more)


def wrong(code):
    """What somebody who does not know the code may guess."""
    words = ("zoo", "zone", "zero")
    return replace(code, words=words if words != code.words else words[::-1])


def pinned(paired, identity):
    return paired.history.identity == identity.history.identity


class Forger:
    """Plays an accepter as it likes: with any code, any scalar, any introduction."""

    def __init__(self, code, us, *, slot=None):
        self.us, self.slot = us, slot or code.slot
        self.session, self.ephemeral = bytes(32), Ephemeral()
        self.run = cpace.Run(
            code.password,
            role="initiator",
            channel=pairing._channel(self.slot),
            session=self.session,
            data=self.ephemeral.share,
        )
        self.hello = Hello(self.run.share, self.ephemeral.share)

    def first(self):
        return self.hello.encode(self.session)

    def third(self, message):
        """Message 3 for a message 2 whose confirmation is not even looked at."""
        answer = Answer.parse(Head.parse(message)[1])
        agreed = self.run.finish(answer.share, answer.answer + answer.attempts)
        early = pairing._transcript(self.slot, self.session, self.hello, answer)
        schedule = Schedule(agreed.isk, self.ephemeral.finish(answer.answer), early)
        introduction, _ = pairing_introduction.introduce("accepter", early, self.us, None, AT)
        sealed = seal_once(schedule.introduction_key("accepter", early), introduction)
        return Head(3, self.session).encode() + agreed.confirmation + sealed


# --- without the code -----------------------------------------------------------------------


@attack(TrustError, NO_PASSWORD)
def guesser_as_accepter(bench):
    made = invitation()
    inviter, rival = Inviter(made, us=bench.lab), Forger(wrong(made.code), bench.rival)
    message = rival.third(inviter.receive(rival.first(), at=AT).send)
    return lambda: pinned(inviter.receive(message, at=AT).paired, bench.rival)


@attack(TrustError, NO_PASSWORD)
def guesser_as_inviter(bench):
    code = Code.make()
    guess = Inviter(invitation(slot=code.slot), us=bench.rival)
    accepter = Accepter(code, us=bench.clinic, at=AT)
    answer = guess.receive(accepter.hello, at=AT).send

    def victim():
        message = guess.receive(accepter.receive(answer, at=AT), at=AT).send
        return pinned(accepter.receive(message, at=AT), bench.rival)

    return victim


@attack(TrustError, NO_PASSWORD)
def middle_between_two(bench):
    """One guess for each side, at once: rival is clinic to lab and lab to clinic."""
    made = invitation()
    lab, clinic = Inviter(made, us=bench.lab), Accepter(made.code, us=bench.clinic, at=AT)
    to_clinic = Inviter(invitation(slot=made.slot), us=bench.rival)
    to_lab = Accepter(wrong(made.code), us=bench.rival, at=AT)
    from_lab = lab.receive(to_lab.hello, at=AT).send
    answer = to_clinic.receive(clinic.hello, at=AT).send

    def victims():
        message = to_clinic.receive(clinic.receive(answer, at=AT), at=AT).send
        both = clinic.receive(message, at=AT), lab.receive(to_lab.receive(from_lab, at=AT), at=AT)
        return all(pinned(one, bench.rival) for one in (both[0], both[1].paired))

    return victims


@attack(Aborted, NO_ABORT)
def share_of_small_order(bench):
    """The product is zero whatever the code is: no guess is needed."""
    made = invitation()
    inviter, rival = Inviter(made, us=bench.lab), Forger(wrong(made.code), bench.rival)
    rival.run.share = bytes(32)
    rival.hello = Hello(bytes(32), rival.ephemeral.share)

    def victim():
        answer = inviter.receive(rival.first(), at=AT).send
        with pytest.MonkeyPatch.context() as patch:  # what anybody can compute
            patch.setattr(cpace, "_multiply", lambda *_: bytes(32))
            message = rival.third(answer)
        return pinned(inviter.receive(message, at=AT).paired, bench.rival)

    return victim


@attack(TrustError, NO_COUNT)
def fourth_guess(bench):
    """After each answer the inviter is killed, and starts again with what was stored."""
    stored = invitation().encode()
    code = Code.make()

    def guess():
        nonlocal stored
        inviter = Inviter(Invitation.parse(stored), us=bench.lab)
        reply = inviter.receive(Forger(code, bench.rival, slot=made.slot).first(), at=AT)
        stored = reply.save.encode()  # before the answer leaves
        return reply.send

    made = Invitation.parse(stored)
    for _ in range(ATTEMPTS):
        guess()
    return lambda: bool(guess())


@attack(TrustError, OLD_COUNT)
def count_rolled_back_by_a_repeated_message(bench):
    made = invitation()
    inviter = Inviter(made, us=bench.lab)
    messages = [Forger(Code.make(), bench.rival, slot=made.slot).first() for _ in range(3)]
    messages = [message[:2] + bytes([n]) * 32 + message[34:] for n, message in enumerate(messages)]
    for message in messages:
        stored = inviter.receive(message, at=AT).save
    stored = inviter.receive(messages[0], at=AT).save  # it had 2 attempts left when it was made

    def victim():
        again = Inviter(stored, us=bench.lab)
        return bool(again.receive(Forger(Code.make(), bench.rival).first(), at=AT).send)

    return victim


@attack(Aborted, NO_GUESS_ONCE, NO_SCALAR_ONCE)
def second_guess_against_one_accepter(bench):
    """rival plays the inviter and answers one message of clinic with guess after guess."""
    code = Code.make()
    accepter = Accepter(code, us=bench.clinic, at=AT)
    miss = Inviter(invitation(slot=code.slot), us=bench.rival)
    with pytest.raises(TrustError):
        accepter.receive(miss.receive(accepter.hello, at=AT).send, at=AT)
    hit = Inviter(
        msgspec.structs.replace(invitation(slot=code.slot), words=code.words), us=bench.rival
    )

    def victim():
        message = accepter.receive(hit.receive(accepter.hello, at=AT).send, at=AT)
        return pinned(accepter.receive(hit.receive(message, at=AT).send, at=AT), bench.rival)

    return victim


@attack(BadCiphertext, NO_AEAD)
def card_swapped_by_the_relay(bench):
    """The relay lets the confirmations pass and puts its own card in clinic's place."""
    made = invitation()
    inviter, accepter = Inviter(made, us=bench.lab), Accepter(made.code, us=bench.clinic, at=AT)
    reply = inviter.receive(accepter.hello, at=AT)
    message = accepter.receive(reply.send, at=AT)
    hello, answer = Hello.parse(accepter.hello[34:]), Answer.parse(reply.send[34:])
    early = pairing._transcript(made.slot, accepter.hello[2:34], hello, answer)
    card, _ = pairing_introduction.introduce("accepter", early, bench.rival, None, AT)
    return lambda: pinned(inviter.receive(message[:98] + card, at=AT).paired, bench.rival)


@attack(BadCiphertext)
def card_changed_on_the_way(bench):
    made = invitation()
    inviter, accepter = Inviter(made, us=bench.lab), Accepter(made.code, us=bench.clinic, at=AT)
    message = accepter.receive(inviter.receive(accepter.hello, at=AT).send, at=AT)
    return lambda: inviter.receive(flip(message, 2000), at=AT)


@attack(TrustError)
def post_quantum_key_swapped(bench):
    """rival wants to read the cards once X25519 has fallen, and needs its own ML-KEM key there."""
    made = invitation()
    inviter, accepter = Inviter(made, us=bench.lab), Accepter(made.code, us=bench.clinic, at=AT)
    theirs = accepter.hello[:66] + Ephemeral().share
    answer = inviter.receive(theirs, at=AT).send
    mine, _ = ephemeral.answer(accepter.hello[66:])
    return lambda: accepter.receive(answer[:66] + mine + answer[-65:], at=AT)


@attack(TrustError)
def attempts_changed_on_the_way(bench):
    made = invitation()
    inviter, accepter = Inviter(made, us=bench.lab), Accepter(made.code, us=bench.clinic, at=AT)
    answer = inviter.receive(accepter.hello, at=AT).send
    return lambda: accepter.receive(flip(answer, len(answer) - 65, bit=1), at=AT)


@attack(Aborted)
def own_share_reflected(bench):
    """With the accepter's own words sent back to it, it would confirm itself."""
    accepter = Accepter(Code.make(), us=bench.clinic, at=AT)
    hello = Hello.parse(accepter.hello[34:])
    message = Answer(hello.share, bytes(1120), b"\2", bytes(64)).encode(accepter.hello[2:34])
    return lambda: accepter.receive(message, at=AT)


@attack(TrustError)
def own_share_reflected_undetected(bench):
    """The same with the check for it gone: who reflects still cannot confirm."""
    with pytest.MonkeyPatch.context() as patch:
        NO_REFLECTION.apply(patch)
        victim = own_share_reflected.make(bench)
        confirm = Accepter._confirm

    def without():
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(Accepter, "_confirm", confirm)
            return victim()

    return without


@attack(BadCiphertext, ONE_KEY, OWN_CARD, ANY_PROOF)
def own_card_reflected(bench):
    """clinic's encrypted card comes back to it as the inviter's."""
    made = invitation()
    inviter, accepter = Inviter(made, us=bench.lab), Accepter(made.code, us=bench.clinic, at=AT)
    message = accepter.receive(inviter.receive(accepter.hello, at=AT).send, at=AT)
    back = b"\4" + message[1:34] + message[98:]
    return lambda: pinned(accepter.receive(back, at=AT), bench.clinic)


@attack(TrustError)
def recorded_pairing_replayed(bench):
    """The relay plays both messages of clinic again to lab, who has started anew."""
    made = invitation()
    inviter, accepter = Inviter(made, us=bench.lab), Accepter(made.code, us=bench.clinic, at=AT)
    first = inviter.receive(accepter.hello, at=AT)
    message = accepter.receive(first.send, at=AT)
    again = Inviter(first.save, us=bench.lab)  # killed before message 3 came
    again.receive(accepter.hello, at=AT)
    return lambda: again.receive(message, at=AT)


@attack(Aborted)
def confirmation_of_an_earlier_attempt(bench):
    made = invitation()
    inviter, early = Inviter(made, us=bench.lab), Accepter(made.code, us=bench.clinic, at=AT)
    first = inviter.receive(early.hello, at=AT)
    message = early.receive(first.send, at=AT)
    again = Inviter(first.save, us=bench.lab)
    again.receive(Accepter(made.code, us=bench.clinic, at=AT).hello, at=AT)
    return lambda: again.receive(message, at=AT)


@attack(TrustError)
def confirmation_of_one_session_in_another(bench):
    made = invitation()
    inviter = Inviter(made, us=bench.lab)
    one, other = (Accepter(made.code, us=bench.clinic, at=AT) for _ in range(2))
    message = one.receive(inviter.receive(one.hello, at=AT).send, at=AT)
    inviter.receive(other.hello, at=AT)
    return lambda: inviter.receive(message[:2] + other.hello[2:34] + message[34:], at=AT)


@attack(TrustError, NO_SLOT_IN_CHANNEL, NO_SLOT_IN_TRANSCRIPT)
def two_slots_with_the_same_words(bench):
    """The relay takes clinic, who asked for one slot, to who waits at another."""
    made = invitation(slot=1)
    inviter = Inviter(made, us=bench.lab)
    accepter = Accepter(replace(made.code, slot=2), us=bench.clinic, at=AT)
    answer = inviter.receive(accepter.hello, at=AT).send

    def victim():
        message = accepter.receive(answer, at=AT)
        return pinned(inviter.receive(message, at=AT).paired, bench.clinic)

    return victim


# --- with the code --------------------------------------------------------------------------


class Impostor:
    """Has the code and shows somebody else's card. Signs with its own key, or shows `proof`."""

    def __init__(self, us, shown, proof=None):
        self.us, self.shown, self.proof = us, shown, proof
        self.history = us.history

    def card(self):
        return self.shown.card()

    def current(self, *, at):
        return self.us.current(at=at)

    def sign(self, document, payload_type, *, at):
        return self.proof or self.us.sign(document, payload_type, at=at)


@attack(BadSignature, NO_PROOF)
def somebody_elses_card_as_accepter(bench):
    """Unknown key share: rival is invited, and bank's card is pinned as rival's."""
    made = invitation()
    inviter = Inviter(made, us=bench.lab)
    rival = Accepter(made.code, us=Impostor(bench.rival, bench.bank), at=AT)
    message = rival.receive(inviter.receive(rival.hello, at=AT).send, at=AT)
    return lambda: pinned(inviter.receive(message, at=AT).paired, bench.bank)


@attack(BadSignature, NO_PROOF)
def somebody_elses_card_as_inviter(bench):
    made = invitation()
    rival = Inviter(made, us=Impostor(bench.rival, bench.bank))
    accepter = Accepter(made.code, us=bench.clinic, at=AT)
    message = accepter.receive(rival.receive(accepter.hello, at=AT).send, at=AT)
    last = rival.receive(message, at=AT).send
    return lambda: pinned(accepter.receive(last, at=AT), bench.bank)


def proof_of(victim, *, by, as_role):
    """What `victim` signed when it paired, honestly, with `by`."""
    caught = []

    class Listening:
        def __getattr__(self, name):
            return getattr(victim, name)

        def sign(self, document, payload_type, *, at):
            caught.append(victim.sign(document, payload_type, at=at))
            return caught[-1]

    made = invitation()
    us, them = (Listening(), by) if as_role == "inviter" else (by, Listening())
    inviter, accepter = Inviter(made, us=us), Accepter(made.code, us=them, at=AT)
    message = accepter.receive(inviter.receive(accepter.hello, at=AT).send, at=AT)
    inviter.receive(message, at=AT)
    return caught[-1]


def with_a_proof_from_elsewhere(bench, as_role):
    proof = proof_of(bench.bank, by=bench.rival, as_role=as_role)
    made = invitation()
    inviter = Inviter(made, us=bench.lab)
    rival = Accepter(made.code, us=Impostor(bench.rival, bench.bank, proof), at=AT)
    message = rival.receive(inviter.receive(rival.hello, at=AT).send, at=AT)
    return lambda: pinned(inviter.receive(message, at=AT).paired, bench.bank)


@attack(BadSignature, ANY_PROOF)
def proof_made_for_another_pairing(bench):
    """rival has paired with bank before, and shows lab what bank signed then."""
    return with_a_proof_from_elsewhere(bench, "accepter")


@attack(BadSignature, ANY_PROOF)
def proof_made_in_another_role(bench):
    return with_a_proof_from_elsewhere(bench, "inviter")


@attack(TrustError, NO_ONE_PARTNER)
def second_partner_for_one_code(bench):
    """rival overheard the code: clinic was first, and rival's session was waiting."""
    made = invitation()
    inviter = Inviter(made, us=bench.lab)
    clinic, rival = (Accepter(made.code, us=us, at=AT) for us in (bench.clinic, bench.rival))
    answers = [inviter.receive(one.hello, at=AT).send for one in (clinic, rival)]
    inviter.receive(clinic.receive(answers[0], at=AT), at=AT)
    message = rival.receive(answers[1], at=AT)
    return lambda: pinned(inviter.receive(message, at=AT).paired, bench.rival)


@attack(TrustError, NO_ONE_PARTNER)
def confirmation_after_the_time(bench):
    made = invitation()
    inviter, rival = Inviter(made, us=bench.lab), Accepter(made.code, us=bench.rival, at=AT)
    message = rival.receive(inviter.receive(rival.hello, at=AT).send, at=AT)
    return lambda: pinned(inviter.receive(message, at=AT + DAY).paired, bench.rival)


@attack(TrustError, OWN_CARD)
def paired_with_ourselves(bench):
    """A colleague types the code: two homes of one identity would pin each other."""
    made = invitation()
    inviter, accepter = Inviter(made, us=bench.lab), Accepter(made.code, us=bench.lab, at=AT)
    message = accepter.receive(inviter.receive(accepter.hello, at=AT).send, at=AT)
    return lambda: pinned(inviter.receive(message, at=AT).paired, bench.lab)


ATTACKS = {
    "who guesses the code is not accepted": guesser_as_accepter,
    "who guesses the code invites nobody": guesser_as_inviter,
    "a middle without the code reaches neither side": middle_between_two,
    "a share of small order does not replace the code": share_of_small_order,
    "there is no fourth guess, restart or not": fourth_guess,
    "a repeated message does not bring attempts back": count_rolled_back_by_a_repeated_message,
    "an accepter is guessed against once": second_guess_against_one_accepter,
    "a relay cannot put its card in the place of another": card_swapped_by_the_relay,
    "a relay cannot change a card": card_changed_on_the_way,
    "a relay cannot swap the post-quantum key": post_quantum_key_swapped,
    "a relay cannot lie about the attempts to who has the code": attempts_changed_on_the_way,
    "a share that comes back is noticed": own_share_reflected,
    "a share that comes back confirms nothing": own_share_reflected_undetected,
    "a card that comes back is not the partner's": own_card_reflected,
    "a recorded pairing cannot be replayed": recorded_pairing_replayed,
    "a confirmation of an earlier attempt is refused": confirmation_of_an_earlier_attempt,
    "a confirmation of one session is none in another": confirmation_of_one_session_in_another,
    "one slot cannot be joined to another": two_slots_with_the_same_words,
    "an accepter cannot show somebody else's card": somebody_elses_card_as_accepter,
    "an inviter cannot show somebody else's card": somebody_elses_card_as_inviter,
    "a proof from another pairing is refused": proof_made_for_another_pairing,
    "a proof from another role is refused": proof_made_in_another_role,
    "one code brings one partner": second_partner_for_one_code,
    "a code has ended when it has ended": confirmation_after_the_time,
    "nobody pairs with themselves": paired_with_ourselves,
}


@pytest.mark.parametrize("sentence", ATTACKS)
def test_refused(bench, sentence):
    ATTACKS[sentence].is_refused(bench)


@pytest.mark.parametrize("sentence", undefended(ATTACKS))
def test_would_work_without_the_check(bench, monkeypatch, sentence):
    ATTACKS[sentence].works_undefended(bench, monkeypatch)


def test_a_wrong_confirmation_alone_does_not_open_the_card(bench, monkeypatch):
    """Were the confirmations not checked, a guesser would still not have the keys."""
    NO_CONFIRMATION.apply(monkeypatch)
    with pytest.raises(BadCiphertext):
        guesser_as_accepter.make(bench)()


def test_no_card_is_sent_before_the_code_is_confirmed(bench):
    """All that a relay without the code can make a side send says nothing about it."""
    made = invitation()
    inviter, accepter = Inviter(made, us=bench.lab), Accepter(made.code, us=bench.clinic, at=AT)
    sent = [accepter.hello, inviter.receive(accepter.hello, at=AT).send]
    assert [len(message) for message in sent] == [1282, 1251]
    third = accepter.receive(sent[1], at=AT)
    for identity in (bench.lab, bench.clinic):
        for secret in (identity.name.encode(), bytes.fromhex(identity.key_id)):
            assert all(secret not in message for message in (*sent, third))
    assert all(word.encode() not in message for word in made.words for message in (*sent, third))
