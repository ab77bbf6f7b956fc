"""What the owner does: kept, announced, and written into every ledger that it touches."""

import pytest
from charters import AT, CLINIC, a_charter

from counterseal.errors import CountersealError, FormatError, LedgerBroken
from counterseal.gateway.administration import Administration
from counterseal.gateway.ladder import Standing
from counterseal.gateway.refusals import NotServedError
from counterseal.gateway.registry import Registry
from counterseal.gateway.revocations import revocations
from counterseal.gateway.served import read_standing, write_standing
from counterseal.gateway.state import MemoryState
from counterseal.gateway.vault import Vault

OURS = a_charter()
OTHER = a_charter(id="0d" * 16, partner={"identity": "33" * 32})


class Desk:
    def __init__(self):
        self.vault = Vault(MemoryState(), protect=lambda s, label: s, unprotect=lambda h, label: h)
        self.happened = []
        self.broken = False
        self.administration = Administration(
            us="11" * 32,
            vault=self.vault,
            charters=lambda: [OURS, OTHER],
            write=self.write,
            announce=lambda: self.happened.append("announced"),
        )

    def write(self, charter, record):
        if self.broken:
            raise LedgerBroken("the disk is full")
        self.happened.append((charter, record.event, record.action, record.reason))


@pytest.fixture
def desk():
    return Desk()


def test_what_is_revoked_is_kept_announced_and_written_down(desk):
    assert desk.administration.revoke("charter", OURS.id, reason="a test", at=AT) == []
    assert [(one.grain, one.subject) for one in revocations(desk.vault)] == [("charter", OURS.id)]
    assert desk.happened == ["announced", (OURS.id, "incident", "suspend-charter", OURS.id)]


@pytest.mark.parametrize(
    ("grain", "subject", "touched"),
    [
        ("partner", CLINIC, [OURS.id]),
        ("model", "scan", [OURS.id, OTHER.id]),
        ("version", "scan@1.4.0", [OURS.id, OTHER.id]),
        ("model", "nothing", []),
        ("session", "5e" * 16, []),
    ],
)
def test_every_ledger_that_is_touched_has_it(desk, grain, subject, touched):
    desk.administration.revoke(grain, subject, reason=None, at=AT)
    assert [one[0] for one in desk.happened if one != "announced"] == touched
    assert "announced" in desk.happened


def test_it_stays_revoked_when_the_ledger_fails(desk):
    desk.broken = True
    (error,) = desk.administration.revoke("charter", OURS.id, reason=None, at=AT)
    assert isinstance(error, CountersealError)
    assert len(revocations(desk.vault)) == 1
    assert desk.happened == ["announced"]


def test_a_charter_is_named_by_the_beginning_of_its_id(desk):
    desk.administration.revoke("charter", OURS.id[:6], reason=None, at=AT)
    assert revocations(desk.vault)[0].subject == OURS.id
    for several_or_none in ("", "ff"):
        with pytest.raises(FormatError):
            desk.administration.revoke("charter", several_or_none, reason=None, at=AT)


def test_a_version_is_named_as_it_is_kept(desk):
    desk.administration.revoke("version", "scan@1.4", reason=None, at=AT)
    assert revocations(desk.vault)[0].subject == "scan@1.4.0"
    assert desk.administration.lift("version", "scan@1.4.0")
    for wrong in ("scan", "scan@", "scan@x"):
        with pytest.raises(FormatError):
            desk.administration.revoke("version", wrong, reason=None, at=AT)


def test_what_is_no_grain_is_refused(desk):
    with pytest.raises(FormatError, match="cannot be revoked"):
        desk.administration.revoke("everything", "x", reason=None, at=AT)


def test_to_lift_what_is_not_revoked_changes_nothing(desk):
    assert not desk.administration.lift("model", "scan")
    assert desk.happened == []


def test_the_ladder_is_cleared(desk):
    write_standing(desk.vault, OURS.id, Standing(("flag", "suspend"), 80))
    desk.administration.clear(OURS)
    assert read_standing(desk.vault, OURS.id) == Standing()
    assert desk.happened[-1][2] == "clear"


def test_an_alias_moves_and_goes_back(desk):
    registry = Registry(desk.vault)
    for number in ("1.0.0", "1.1.0"):
        registry.add("scan", number, "d1" * 32 if number == "1.0.0" else "d2" * 32, object())
    assert desk.administration.point("scan", "default", "1.0") == "1.0.0"
    assert desk.administration.point("scan", "", "1.1.0") == "1.1.0"
    assert desk.administration.point("scan", "default", None) == "1.0.0"
    actions = [one[2] for one in desk.happened if one != "announced"]
    assert actions[::2] == ["alias-default", "alias-default", "rollback-default"]
    with pytest.raises(NotServedError):
        desk.administration.point("scan", "default", "7.0.0")


@pytest.mark.parametrize("permille", [-1, 1001])
def test_a_share_is_of_a_thousand(desk, permille):
    with pytest.raises(FormatError):
        desk.administration.try_out("scan", "1.0.0", permille=permille, shadow=False)


def test_canaries_begin_and_end(desk):
    desk.administration.try_out("scan", "1.0", permille=5, shadow=True)
    desk.administration.try_out("scan", None, permille=0, shadow=False)
    actions = [one[2:] for one in desk.happened if one != "announced"]
    assert actions[::2] == [("shadow", "scan@1.0.0"), ("canary-end", "scan")]
