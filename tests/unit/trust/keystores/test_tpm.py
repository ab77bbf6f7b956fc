"""A TPM, with swtpm: what differs from other tokens."""

from __future__ import annotations

import os
import sys

import pytest
from tokens import PIN, shelf

from counterseal._extras import require
from counterseal.crypto import p256
from counterseal.errors import CountersealError, FormatError, MissingExtraError, TrustError
from counterseal.trust.home import Home
from counterseal.trust.identity import Identity
from counterseal.trust.keystores import tpm as tpms
from counterseal.trust.keystores import tss
from counterseal.trust.keystores.halves import TokenHalf
from counterseal.trust.keystores.uri import parse


@pytest.fixture
def chip(tpm):
    made = shelf(tpm.uri)
    yield made
    made.close()


def loaded(chip):
    """How many keys and sessions are in the TPM now."""
    api, count = chip._api, 0
    with chip._tpm._connected() as connection:
        for first in (api.TPM2_HC.TRANSIENT_FIRST, api.TPM2_HC.LOADED_SESSION_FIRST):
            _, found = connection.get_capability(api.TPM2_CAP.HANDLES, first, 10)
            count += len(found.data.handles)
    return count


def test_a_key_signs_and_agrees(chip):
    handle, point = chip.generate("signing", "x")
    p256.check_signer(TokenHalf(chip, handle, point))
    handle, point = chip.generate("agreement", "x")
    p256.check_agreement(TokenHalf(chip, handle, point))


def test_nothing_stays_loaded(chip):
    handle, _ = chip.generate("signing", "x")
    for _ in range(5):  # there is room for three
        chip.sign(handle, bytes(32))
    with pytest.raises(TrustError):
        chip.exchange(handle, p256.fresh_point())
    assert loaded(chip) == 0


def test_what_a_tpm_refuses_is_flushed_too(chip):
    handle, _ = chip.generate("signing", "x")
    for _ in range(5):
        with pytest.raises(TrustError, match="refused"):
            chip.exchange(handle, p256.fresh_point())
    chip.sign(handle, bytes(32))


def test_many_signatures_have_whole_numbers(chip):
    handle, point = chip.generate("signing", "x")
    for _ in range(10):
        p256.check_signer(TokenHalf(chip, handle, point))


@pytest.mark.parametrize("length", [0, 1, 31, 32])
def test_numbers_without_their_leading_zeros(length):
    assert tpms._coordinate(b"\1" * length) == bytes(32 - length) + b"\1" * length


def test_the_pin_can_be_changed(tpm, tmp_path):
    home = Home(tmp_path)
    lab = Identity.create("lab", home=home, passphrase=PIN, keystore=tpm.uri)
    lab.change_passphrase(b"another PIN")
    at = lab.history.newest.card.created
    lab.signer(at=at).sign(b"m")
    lab.close()
    with pytest.raises(TrustError, match="wrong PIN"):
        Identity.load("lab", home=home, passphrase=PIN)
    lab = Identity.load("lab", home=home, passphrase=b"another PIN")
    lab.signer(at=at).sign(b"m")
    lab.close()
    home.close()


def test_a_long_pin_counts_to_its_last_byte(tpm, tmp_path):
    home = Home(tmp_path)
    Identity.create("lab", home=home, passphrase=b"x" * 200 + b"\0", keystore=tpm.uri).close()
    with pytest.raises(TrustError, match="wrong PIN"):
        Identity.load("lab", home=home, passphrase=b"x" * 200)
    Identity.load("lab", home=home, passphrase=b"x" * 200 + b"\0").close()
    home.close()


def test_an_owner_password_is_named(chip):
    api = chip._api
    with chip._tpm._connected() as connection:
        connection.hierarchy_change_auth(api.ESYS_TR.OWNER, api.TPM2B_AUTH(b"owner"))
    with pytest.raises(TrustError, match="owner of") as caught:
        chip.generate("signing", "x")
    assert "changeauth" in caught.value.hint


def test_no_tpm_there(tmp_path):
    pytest.importorskip("tpm2_pytss")
    for uri in (f"tpm:swtpm:path={tmp_path}/none", f"tpm:device:{tmp_path}/none"):
        with pytest.raises(TrustError, match="not there"):
            tpms.unlock(parse(uri), PIN)
        with pytest.raises(TrustError, match="not there"):
            tpms.check(parse(uri), serial="")


def test_no_pin(tpm):
    with pytest.raises(FormatError):
        shelf(tpm.uri, b"")


def test_the_missing_extra_has_its_pip_line(monkeypatch):
    monkeypatch.setitem(sys.modules, "tpm2_pytss", None)
    with pytest.raises(MissingExtraError) as caught:
        tpms.unlock(parse("tpm:"), PIN)
    assert "counterseal[tpm]" in caught.value.hint


def test_a_missing_system_library_is_named(monkeypatch):
    def broken(*_, **__):
        raise ImportError("libtss2-esys.so.0: cannot open shared object file")

    monkeypatch.setattr(tss, "require", broken)
    with pytest.raises(CountersealError, match=r"libtss2-esys\.so") as caught:
        tpms.unlock(parse("tpm:"), PIN)
    assert "apt-get" in caught.value.hint


def test_the_library_is_quiet(tpm, capfd):
    chip = shelf(tpm.uri)
    with pytest.raises((TrustError, FormatError)):
        chip.sign(os.urandom(40), bytes(32))
    tpm.kill()
    with pytest.raises(TrustError):
        chip.generate("signing", "x")
    assert capfd.readouterr() == ("", "")
    assert require("tpm2_pytss", extra="tpm")
