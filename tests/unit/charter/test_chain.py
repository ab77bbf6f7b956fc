"""Offer, counter-offer, signatures, suspension, amendment: as files that two parties hand over."""

from datetime import timedelta

import pytest
from charters import BEGINS, ENDS, a_charter, amended
from workshop import Cast

from counterseal.charter.chain import Chain, ChainDocument
from counterseal.errors import CharterDenied, FormatError, RolledBack, TamperError, TrustError

AT = BEGINS + timedelta(days=10)
SECOND = timedelta(seconds=1)


class Table:
    """The lab owns, the clinic uses; each `hand` is a file that travels."""

    def __init__(self, cast):
        self.cast = cast
        self.parties = {
            one.history.identity: one.history for one in (cast.lab, cast.clinic, cast.rival)
        }
        self.charter = a_charter(
            owner={"identity": cast.lab.history.identity},
            partner={"identity": cast.clinic.history.identity},
        )
        self.clock = AT

    def now(self):
        self.clock += SECOND
        return self.clock

    def by(self, who, **more):
        return {"by": getattr(self.cast, who), "parties": self.parties, "at": self.now(), **more}

    def offered(self, charter=None):
        return Chain.begin(charter or self.charter, **self.by("lab"))

    def signed(self):
        return self.hand(self.offered()).countersigned(**self.by("clinic"))

    def hand(self, chain, narrower=lambda *_: False):
        document = ChainDocument.parse(chain.document.encode())
        return Chain.verify(document, parties=self.parties, narrower=narrower)


@pytest.fixture(scope="module")
def cast():
    return Cast(at=BEGINS)


@pytest.fixture
def table(cast):
    return Table(cast)


def test_offered_countersigned_in_force(table):
    offered = table.offered()
    assert (offered.standing.at(AT), offered.version.sides) == ("offered", {"owner"})
    signed = table.hand(table.signed())
    assert signed.version.complete
    assert signed.standing.state == "signed"
    assert signed.standing.at(table.now()) == "active"
    assert signed.standing.at(ENDS) == "exiting"


def test_the_partner_may_offer_as_well(table):
    offered = Chain.begin(table.charter, **table.by("clinic"))
    signed = table.hand(offered).countersigned(**table.by("lab"))
    assert table.hand(signed).version.complete


def test_a_counter_offer_and_back(table):
    from counterseal.charter import signing

    theirs = a_charter(
        owner={"identity": table.charter.owner.identity},
        partner={"identity": table.charter.partner.identity},
        limits={"rows_per_request": 512},
    )
    envelope = signing.sign(theirs, by=table.cast.clinic, at=AT)
    countered = table.offered().moved("counter", version=envelope, **table.by("clinic"))
    assert countered.standing.state == "countered"
    signed = table.hand(countered).countersigned(**table.by("lab"))
    assert table.hand(signed).charter.limits.rows_per_request == 512


def test_either_suspends_and_both_resume(table):
    for who, other in (("lab", "clinic"), ("clinic", "lab")):
        suspended = table.signed().moved("suspend", reason="odd", **table.by(who))
        assert table.hand(suspended).standing.at(table.now()) == "suspended"
        asked = table.hand(suspended.moved("resume", **table.by(who)))
        assert asked.standing.at(table.now()) == "suspended"
        assert asked.waiting[0].action == "resume"
        with pytest.raises(CharterDenied, match="we signed this step already"):
            asked.cosigned(**table.by(who))
        resumed = table.hand(asked.cosigned(**table.by(other)))
        assert resumed.standing.at(table.now()) == "active"
        assert resumed.waiting is None


def test_an_amendment_of_both(table):
    from counterseal.charter import signing

    chain = table.signed()
    new = amended(chain.charter, limits={"rows_per_request": 1024})
    envelope = signing.sign(new, by=table.cast.lab, at=AT)
    asked = table.hand(chain.moved("amend", version=envelope, **table.by("lab")))
    assert asked.charter.limits.rows_per_request == 256
    assert asked.waiting[1].charter == new
    done = table.hand(asked.cosigned(**table.by("clinic")))
    assert done.charter == new
    assert done.version.complete


def test_a_narrower_amendment_of_the_owner_alone(table):
    from counterseal.charter import signing

    chain = table.signed()
    new = amended(chain.charter, limits={"rows_per_request": 10})
    envelope = signing.sign(new, by=table.cast.lab, at=AT)
    done = chain.moved("amend", version=envelope, narrower=True, **table.by("lab"))
    assert done.charter == new
    assert table.hand(done, narrower=lambda *_: True).charter == new
    with pytest.raises(CharterDenied):  # each side proves it for itself
        table.hand(done, narrower=lambda *_: False)


def test_exit_and_close(table):
    ending = table.signed().moved("exit", **table.by("clinic"))
    assert ending.standing.at(table.now()) == "exiting"
    closed = table.hand(ending.moved("close", **table.by("lab"))).cosigned(**table.by("clinic"))
    assert table.hand(closed).standing.state == "closed"


def test_what_is_held_is_only_continued(table):
    signed = table.signed()
    later = signed.moved("suspend", **table.by("lab"))
    other = signed.moved("exit", **table.by("clinic"))
    assert signed.newer(later) is later
    assert signed.newer(signed) is signed
    with pytest.raises(RolledBack):
        later.newer(signed)
    with pytest.raises(TamperError, match="contradicts"):
        later.newer(other)
    asked = later.moved("resume", **table.by("lab"))
    assert later.newer(asked) is asked
    assert asked.newer(later) is asked


def test_no_step_waits(table):
    with pytest.raises(CharterDenied, match="no step waits"):
        table.signed().cosigned(**table.by("clinic"))


def test_nobody_signs_nonsense(table):
    """A step that needs both is checked before the first of them signs it away."""
    with pytest.raises(CharterDenied, match="has no step"):
        table.signed().moved("resume", **table.by("lab"))


def test_a_stranger_signs_nothing(table):
    with pytest.raises(TrustError, match="between others"):
        Chain.begin(table.charter, **table.by("rival"))
    with pytest.raises(TrustError, match="between others"):
        table.offered().countersigned(**table.by("rival"))


def test_a_charter_with_somebody_who_is_not_pinned(table):
    del table.parties[table.cast.lab.history.identity]
    with pytest.raises(TrustError, match="not pinned"):
        Chain.begin(table.charter, **table.by("clinic"))


def test_bytes_that_are_no_charter():
    for data in (b"", b"{}", b"[" * 100, b'{"kind":"charter-chain"}'):
        with pytest.raises(FormatError):
            ChainDocument.parse(data)
