import pytest
from workshop import AT, DAY

from counterseal.errors import Aborted, RevokedKey, TrustError, UnknownPartner
from counterseal.exchange.transports.https.binding import Who, check_client, check_mailbox, prove

EXPORTER = bytes(range(32))


@pytest.fixture
def bank(cast):
    return cast.bank


def by_mailbox(bank, exporter=EXPORTER, at=AT):
    return prove("mailbox", exporter, by=bank, mailbox=bank.history.identity, client=None, at=at)


def by_client(client, bank, exporter=EXPORTER, at=AT, claims=None):
    claimed = (claims or client).history.identity
    mailbox = bank.history.identity
    return prove("client", exporter, by=client, mailbox=mailbox, client=claimed, at=at)


def check(proof, bank, *known, exporter=EXPORTER, at=AT):
    lookup = {one.history.identity: one.history for one in known}.get
    mailbox = bank.history.identity
    return check_client(proof, exporter, mailbox=mailbox, lookup=lookup, at=at)


def test_both_prove_who_they_are(cast, bank):
    check_mailbox(by_mailbox(bank), EXPORTER, mailbox=bank.history, at=AT)
    who = check(by_client(cast.lab, bank), bank, cast.lab, cast.clinic)
    assert who == Who(identity=cast.lab.history.identity, card=cast.lab.key_id)
    who.check(cast.lab.history, at=AT)


def test_another_connection(cast, bank):
    with pytest.raises(TrustError, match="does not end where it should"):
        check_mailbox(by_mailbox(bank), bytes(32), mailbox=bank.history, at=AT)
    with pytest.raises(TrustError, match="does not end where it should"):
        check(by_client(cast.lab, bank), bank, cast.lab, exporter=bytes(32))


def test_another_mailbox(cast, bank):
    with pytest.raises(TrustError, match="another mailbox"):
        check_mailbox(by_mailbox(cast.rival), EXPORTER, mailbox=bank.history, at=AT)
    with pytest.raises(TrustError, match="another mailbox"):
        check(by_client(cast.lab, cast.rival), bank, cast.lab)


def test_a_proof_sent_back(cast, bank):
    with pytest.raises(TrustError, match="wrong side"):
        check(by_mailbox(bank), bank, cast.lab, bank)
    with pytest.raises(TrustError, match="wrong side"):
        check_mailbox(by_client(cast.lab, bank), EXPORTER, mailbox=bank.history, at=AT)
    as_mailbox = prove(
        "mailbox", EXPORTER, by=bank, mailbox=bank.history.identity, client="0" * 64, at=AT
    )
    with pytest.raises(Aborted):
        check_mailbox(as_mailbox, EXPORTER, mailbox=bank.history, at=AT)


def test_a_stranger_and_an_impostor_look_alike(cast, bank):
    with pytest.raises(UnknownPartner) as stranger:
        check(by_client(cast.rival, bank), bank, cast.lab)
    with pytest.raises(UnknownPartner) as impostor:
        check(by_client(cast.rival, bank, claims=cast.lab), bank, cast.lab)
    assert stranger.value.message == impostor.value.message


def test_an_impostor_of_the_mailbox(cast, bank):
    proof = prove(
        "mailbox", EXPORTER, by=cast.rival, mailbox=bank.history.identity, client=None, at=AT
    )
    with pytest.raises(Exception, match="not one of") as caught:
        check_mailbox(proof, EXPORTER, mailbox=bank.history, at=AT)
    assert caught.value.exit_code == 4


def test_only_the_current_card_counts(cast, bank):
    old = by_client(cast.lab, bank)
    who = check(old, bank, cast.lab)
    cast.lab.rotate(at=AT)
    with pytest.raises(RevokedKey, match="replaced"):
        check(old, bank, cast.lab)
    with pytest.raises(RevokedKey, match="replaced"):
        who.check(cast.lab.history, at=AT)
    who = check(by_client(cast.lab, bank), bank, cast.lab)
    cast.lab.revoke(reason="lost", at=AT)
    with pytest.raises(RevokedKey):
        who.check(cast.lab.history, at=AT)
    with pytest.raises(UnknownPartner):
        who.check(None, at=AT)


def test_a_card_that_the_mailbox_has_not_got_yet(cast, bank):
    before = cast.lab.history
    cast.lab.rotate(at=AT)
    proof = by_client(cast.lab, bank)
    with pytest.raises(UnknownPartner, match="does not know you") as caught:
        check_client(proof, EXPORTER, mailbox=bank.history.identity, lookup=lambda _: before, at=AT)
    assert "newest card" in caught.value.hint


def test_an_expired_card(cast, bank):
    proof = by_client(cast.lab, bank)
    with pytest.raises(TrustError):
        check(proof, bank, cast.lab, at=AT + 400 * DAY)
