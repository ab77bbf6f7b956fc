"""What is taken back, at every grain."""

from types import SimpleNamespace

import pytest
from workshop import AT

from counterseal.errors import CharterDenied, FormatError
from counterseal.gateway.revocations import GRAINS, Revoked, lift, revocations, revoke
from counterseal.gateway.state import MemoryState
from counterseal.gateway.vault import Vault

OFFER = SimpleNamespace(model="scan", number="1.0.0")
SUBJECTS = {
    "session": "5e" * 16,
    "charter": "c0" * 16,
    "model": "scan",
    "version": "scan@1.0.0",
    "partner": "22" * 32,
}


@pytest.fixture
def vault():
    return Vault(MemoryState(), protect=lambda s, label: s, unprotect=lambda h, label: h)


def check(revoked):
    revoked.check(
        session=SUBJECTS["session"], charter=SUBJECTS["charter"], partner=SUBJECTS["partner"]
    )
    revoked.check_model(OFFER)


def test_each_grain_has_a_subject_here():
    assert set(SUBJECTS) == set(GRAINS)


@pytest.mark.parametrize("grain", SUBJECTS)
def test_what_was_taken_back_is_denied_until_it_is_given_back(vault, grain):
    check(Revoked.of(revocations(vault)))
    revoke(vault, grain, SUBJECTS[grain], reason="a test", at=AT)
    with pytest.raises(CharterDenied, match=f"the {grain} was suspended .*: a test"):
        check(Revoked.of(revocations(vault)))
    assert lift(vault, grain, SUBJECTS[grain])
    assert not lift(vault, grain, SUBJECTS[grain])
    check(Revoked.of(revocations(vault)))


@pytest.mark.parametrize("grain", SUBJECTS)
def test_nothing_else_is_taken_back(vault, grain):
    other = SUBJECTS[grain][:-1] + "9"
    revoke(vault, grain, other, reason=None, at=AT)
    check(Revoked.of(revocations(vault)))


@pytest.mark.parametrize(
    ("grain", "subject", "reason"),
    [
        ("planet", "earth", None),
        ("model", "", None),
        ("model", "a b", None),
        ("model", "a/../b", None),
        ("model", "x" * 129, None),
        ("model", "scan", "r" * 201),
    ],
)
def test_what_cannot_be_taken_back_is_refused(vault, grain, subject, reason):
    with pytest.raises(FormatError):
        revoke(vault, grain, subject, reason=reason, at=AT)
    assert revocations(vault) == []
