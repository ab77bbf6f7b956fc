"""What somebody tries with a charter that travels over any line. Each row is a sentence.

The rival is pinned by both, as a partner of other charters: its signatures are good, for others.
"""

from datetime import timedelta

import msgspec
import pytest
from charters import BEGINS, a_charter, amended
from workshop import Cast, Cut

from counterseal.charter import signing
from counterseal.charter.chain import Chain, ChainDocument
from counterseal.charter.document import CHARTER_TYPE
from counterseal.charter.states import STEP_TYPE
from counterseal.errors import BadSignature, CharterDenied, RolledBack, TamperError

AT = BEGINS + timedelta(days=10)
SECOND = timedelta(seconds=1)


class Table:
    def __init__(self):
        self.cast = cast = Cast(at=BEGINS)
        self.parties = {
            one.history.identity: one.history for one in (cast.lab, cast.clinic, cast.rival)
        }
        self.charter = a_charter(
            owner={"identity": cast.lab.history.identity},
            partner={"identity": cast.clinic.history.identity},
        )
        self.offered = Chain.begin(self.charter, **self.by("lab", 1))
        self.signed = self.offered.countersigned(**self.by("clinic", 2))
        self.suspended = self.signed.moved("suspend", **self.by("lab", 3))
        self.asked = self.suspended.moved("resume", **self.by("clinic", 4))
        self.resumed = self.asked.cosigned(**self.by("lab", 5))

    def by(self, who, second):
        return {
            "by": getattr(self.cast, who), "parties": self.parties, "at": AT + second * SECOND,
        }  # fmt: skip

    def read(self, document):
        """As the clinic reads what the line brings."""
        return Chain.verify(ChainDocument.parse(document.encode()), parties=self.parties)

    def with_last(self, chain, **change):
        """The last move with another step or version envelope."""
        *moves, last = chain.document.moves
        moved = msgspec.structs.replace(last, **change)
        return msgspec.structs.replace(chain.document, moves=(*moves, moved))

    def signed_by_us(self, step, *who):
        """A step envelope with these signatures, whatever it says."""
        made = [getattr(self.cast, one).sign(step, STEP_TYPE, at=AT) for one in who]
        signatures = [signature for one in made for signature in one.signatures]
        return msgspec.structs.replace(made[0], signatures=tuple(signatures))

    def last_step(self, chain):
        return chain.standing.last


@pytest.fixture(scope="module")
def table():
    return Table()


def resumed_by_one(table):
    """The partner resumes a suspended charter with its own signature only."""
    step = table.last_step(table.resumed)
    return table.with_last(table.resumed, step=table.signed_by_us(step, "clinic"))


def resumed_by_partner_and_rival(table):
    step = table.last_step(table.resumed)
    return table.with_last(table.resumed, step=table.signed_by_us(step, "clinic", "rival"))


def resumed_by_one_signature_twice(table):
    step = table.last_step(table.resumed)
    once = table.signed_by_us(step, "clinic")
    twice = msgspec.structs.replace(once, signatures=once.signatures * 2)
    return table.with_last(table.resumed, step=twice)


def suspension_left_out(table):
    """The partner hides that the owner suspended, and shows the resumption alone."""
    moves = table.resumed.document.moves
    return msgspec.structs.replace(table.resumed.document, moves=(*moves[:-2], moves[-1]))


def steps_in_another_order(table):
    moves = table.resumed.document.moves
    return msgspec.structs.replace(
        table.resumed.document, moves=(*moves[:-2], moves[-1], moves[-2])
    )


def wider_text_under_old_signatures(table):
    """One more zero in a limit, the signatures left as they were."""
    version = table.signed.document.moves[-1].version
    payload = version.payload.replace(b'"rows_per_request":256', b'"rows_per_request":2560')
    assert payload != version.payload
    return table.with_last(table.signed, version=msgspec.structs.replace(version, payload=payload))


def wider_text_signed_by_the_partner_alone(table):
    """The partner signs a wider version itself, twice over in both places, and calls it signed."""
    wide = amended(table.charter, limits={"rows_per_request": 2560})
    version = table.cast.clinic.sign(wide, CHARTER_TYPE, at=AT)
    step = msgspec.structs.replace(
        table.last_step(table.signed),
        number=4,
        previous=table.last_step(table.signed).digest,
        action="amend",
        version=wide.digest,
    )
    move = msgspec.structs.replace(
        table.signed.document.moves[-1], step=table.signed_by_us(step, "clinic"), version=version
    )
    moves = (*table.signed.document.moves, move)
    return msgspec.structs.replace(table.signed.document, moves=moves)


def rival_countersigns(table):
    """A third organization puts its good signature where the partner's belongs."""
    version = table.offered.version.envelope
    theirs = table.cast.rival.sign(table.charter, CHARTER_TYPE, at=AT)
    both = msgspec.structs.replace(version, signatures=(*version.signatures, *theirs.signatures))
    return table.with_last(table.offered, version=both)


def charter_signed_as_a_step(table):
    """What the owner signed as one kind of document is shown as another."""
    envelope = table.cast.lab.sign(table.charter, STEP_TYPE, at=AT)
    as_charter = msgspec.structs.replace(envelope, payloadType=CHARTER_TYPE)
    return table.with_last(table.offered, version=as_charter)


def classical_signature_alone(table):
    """The post-quantum half is stripped."""
    version = table.offered.version.envelope
    half = msgspec.structs.replace(version, signatures=version.signatures[:1])
    return table.with_last(table.offered, version=half)


def step_of_another_charter(table):
    """A suspension that the owner signed for one charter is put into another."""
    other = a_charter(
        id="0d" * 16,
        owner={"identity": table.charter.owner.identity},
        partner={"identity": table.charter.partner.identity},
    )
    chain = Chain.begin(other, **table.by("lab", 1)).countersigned(**table.by("clinic", 2))
    moves = (*chain.document.moves, table.suspended.document.moves[-1])
    return msgspec.structs.replace(chain.document, moves=moves)


CASES = {
    "a suspended charter is not resumed by one side": (resumed_by_one, CharterDenied),
    "a third party's signature does not resume it": (resumed_by_partner_and_rival, BadSignature),
    "one signature twice is not two": (resumed_by_one_signature_twice, BadSignature),
    "a step that is left out is missed": (suspension_left_out, TamperError),
    "steps in another order are refused": (steps_in_another_order, TamperError),
    "a changed limit breaks the signatures": (wider_text_under_old_signatures, BadSignature),
    "nobody widens a charter alone": (wider_text_signed_by_the_partner_alone, CharterDenied),
    "a third party does not countersign": (rival_countersigns, BadSignature),
    "what was signed as a step is no charter": (charter_signed_as_a_step, BadSignature),
    "half a signature is none": (classical_signature_alone, BadSignature),
    "a step of one charter does not move another": (step_of_another_charter, TamperError),
}


@pytest.mark.parametrize("sentence", CASES)
def test_is_refused(table, sentence):
    forge, error = CASES[sentence]
    with pytest.raises(error):
        table.read(forge(table))


def test_the_honest_ones_are_accepted(table):
    for chain in (table.offered, table.signed, table.suspended, table.asked, table.resumed):
        assert table.read(chain.document).standing == chain.standing


CUTS = {
    "a suspended charter is not resumed by one side": Cut(
        "counterseal.charter.states:Standing._check_who", "if not good:", "if False:"
    ),
    "nobody widens a charter alone": (
        Cut("counterseal.charter.states:Standing._check_who", "if not good:", "if False:"),
        Cut("counterseal.charter.states:Standing.after", "if not alone:", "if False:"),
    ),
}


@pytest.mark.parametrize("sentence", CUTS)
def test_succeeds_without_its_defense(table, sentence, monkeypatch):
    cuts = CUTS[sentence]
    for cut in cuts if isinstance(cuts, tuple) else (cuts,):
        cut.apply(monkeypatch)
    table.read(CASES[sentence][0](table))


def test_an_old_version_is_not_put_back(table):
    """The partner sends the charter as it was before the suspension."""
    with pytest.raises(RolledBack):
        table.suspended.newer(table.read(table.signed.document))


@pytest.mark.parametrize("defended", [True, False])
def test_a_revoked_key_signs_no_charter(monkeypatch, defended):
    """A thief of a replaced and revoked key offers a charter in the lab's name."""
    table = Table()
    lab = table.cast.lab
    lab.rotate(at=AT)
    lab.revoke(reason="lost", which=lab.history.identity, at=AT)
    parties = {**table.parties, lab.history.identity: lab.history}
    stolen = table.offered.version.envelope
    if defended:
        with pytest.raises(BadSignature):
            signing.verify(stolen, parties=parties)
        return
    Cut("counterseal.charter.signing:keys_of", "dated.revoked is None", "True").apply(monkeypatch)
    assert signing.verify(stolen, parties=parties).sides == {"owner"}
