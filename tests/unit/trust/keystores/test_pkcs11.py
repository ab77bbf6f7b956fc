"""PKCS#11 tokens, with SoftHSM2: finding them, speaking to them, and what they say in words."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import threading
from types import SimpleNamespace

import pytest
from tokens import MODULE, PIN, log_out, shelf

from counterseal.crypto import p256
from counterseal.errors import CountersealError, FormatError, MissingExtraError, TrustError
from counterseal.trust.home import Home
from counterseal.trust.identity import Identity
from counterseal.trust.keystores import cryptoki, pkcs11
from counterseal.trust.keystores.halves import TokenHalf
from counterseal.trust.keystores.uri import Pkcs11Uri, parse


@pytest.fixture
def chip(token):
    made = shelf(token.uri)
    yield made
    made.close()


def unlock(uri, pin=PIN, **more):
    return pkcs11.unlock(parse(uri), pin, **more)


def test_a_key_signs_and_agrees(chip):
    handle, point = chip.generate("signing", "x")
    p256.check_signer(TokenHalf(chip, handle, point))
    handle, point = chip.generate("agreement", "x")
    p256.check_agreement(TokenHalf(chip, handle, point))


def test_its_keys_have_names_that_people_can_read(chip):
    chip.generate("signing", "1a2b3c4d")
    api = chip._api
    (key,) = chip._login.session.get_objects({api.Attribute.CLASS: api.ObjectClass.PRIVATE_KEY})
    assert re.fullmatch(r"counterseal lab [0-9a-f]{8} 1a2b3c4d signing", key.label)


def test_the_uri_says_what_keys_are_called(token):
    chip = unlock(token.uri.replace("?", ";object=backup%20office?"))
    assert re.fullmatch("backup office [0-9a-f]{8}", chip.uri.object)
    chip.close()
    again = pkcs11.unlock(chip.uri, PIN, serial=chip.serial)
    assert again.uri == chip.uri
    again.close()


def test_a_name_that_would_not_be_read_again_is_refused(token):
    with pytest.raises(FormatError, match="80 bytes"):
        unlock(token.uri.replace("?", f";object={'x' * 90}?"))


def test_what_one_keystore_made_is_not_swept_by_another(token):
    one, two = shelf(token.uri), shelf(token.uri)
    (first, _), (second, _) = one.generate("signing", "x"), two.generate("signing", "x")
    assert (one.made(), two.made()) == ({first}, {second})
    one.close()
    two.close()


def test_only_private_keys_are_left_in_the_token(chip, token):
    chip.generate("signing", "x")
    chip.generate("agreement", "x")
    chip.keep_key()
    assert token.objects() == 3


def test_destroying_what_is_gone_is_no_error(chip, token):
    handle, _ = chip.generate("signing", "x")
    ticket, _ = chip.keep_key()
    chip.destroy([handle, ticket])
    chip.destroy([handle, ticket, b"\0" * 16])
    assert token.objects() == 0


def test_rotating_makes_three_keys_and_forgetting_destroys_three(token, tmp_path):
    home = Home(tmp_path)
    lab = Identity.create("lab", home=home, passphrase=PIN, keystore=token.uri)
    assert token.objects() == 4  # and the one that keeps the file's key
    lab.rotate(passphrase=PIN)
    assert token.objects() == 7
    old = lab.openers()[1][1]
    sealed = old.public.seal(b"old", info=b"i")
    assert lab.forget_old_keys(passphrase=PIN) == 1
    assert token.objects() == 4
    with pytest.raises(TrustError, match="not in the token"):
        old.open(sealed, info=b"i")
    lab.close()
    home.close()


def test_an_interrupted_sweep_is_made_up_for(token, tmp_path, monkeypatch):
    home = Home(tmp_path)
    lab = Identity.create("lab", home=home, passphrase=PIN, keystore=token.uri)
    lab.rotate(passphrase=PIN)
    with monkeypatch.context() as patch:
        patch.setattr(type(lab._keystore), "sweep", lambda self: None)  # killed before it
        lab.forget_old_keys(passphrase=PIN)
    assert token.objects() == 8
    lab.close()
    lab = Identity.load("lab", home=home, passphrase=PIN)
    lab.rotate(passphrase=PIN)
    assert token.objects() == 7
    lab.close()
    home.close()


def test_the_pin_is_the_tokens_to_change(token, tmp_path):
    home = Home(tmp_path)
    lab = Identity.create("lab", home=home, passphrase=PIN, keystore=token.uri)
    with pytest.raises(TrustError, match="belongs to the token"):
        lab.change_passphrase(b"another")
    lab.close()
    home.close()


def test_a_token_that_is_not_there(softhsm):
    with pytest.raises(TrustError, match='no token "nothing"') as caught:
        unlock(f"pkcs11:token=nothing?module-path={MODULE}")
    assert "plugged in" in caught.value.hint


def test_two_tokens_with_one_label(softhsm):
    one, two = softhsm.new("twins"), softhsm.new("twins")
    with pytest.raises(FormatError, match="2 tokens") as caught:
        unlock(one.uri)
    serials = caught.value.hint.partition("serial=")[2].split(" or ")
    assert len(serials) == 2
    for serial in serials:
        chip = unlock(one.uri.replace("?", f";serial={serial}?"))
        assert chip.serial == serial
        chip.close()
    del two


def test_a_usual_place_is_found_without_its_path(token, monkeypatch):
    monkeypatch.setattr(cryptoki, "KNOWN", (MODULE,))
    chip = unlock(token.uri.partition("?")[0])
    assert chip.uri.module is None  # so a system that moves the library does not break it
    chip.close()
    monkeypatch.setattr(cryptoki, "KNOWN", ())
    with pytest.raises(CountersealError, match="no PKCS#11 library"):
        unlock(token.uri.partition("?")[0])


def test_a_usual_place_that_is_broken_is_passed_over(token, monkeypatch, tmp_path):
    broken = tmp_path / "lib.so"
    broken.write_bytes(b"")
    monkeypatch.setattr(cryptoki, "KNOWN", (str(broken), MODULE))
    unlock(token.uri.partition("?")[0]).close()


def test_a_library_that_is_not_there():
    pytest.importorskip("pkcs11")
    with pytest.raises(CountersealError, match="no PKCS#11 library /nowhere") as caught:
        unlock("pkcs11:token=lab?module-path=/nowhere/lib.so")
    assert caught.value.exit_code == 1
    assert caught.value.hint


def test_a_library_that_is_none(tmp_path):
    pytest.importorskip("pkcs11")
    path = tmp_path / "lib.so"
    path.write_bytes(b"not a library")
    path.chmod(0o644)
    with pytest.raises(CountersealError, match="does not start"):
        unlock(f"pkcs11:token=lab?module-path={path}")


def test_the_missing_extra_has_its_pip_line(monkeypatch):
    monkeypatch.setitem(sys.modules, "pkcs11", None)
    monkeypatch.setattr(cryptoki, "_loaded", {})
    with pytest.raises(MissingExtraError) as caught:
        unlock(f"pkcs11:token=lab?module-path={MODULE or '/lib/x.so'}")
    assert "counterseal[hsm]" in caught.value.hint


def test_many_threads_take_turns(chip):
    handle, point = chip.generate("agreement", "x")
    half, wrong = TokenHalf(chip, handle, point), []

    def work():
        try:
            for _ in range(10):
                p256.check_agreement(half)
        except CountersealError as error:
            wrong.append(error)

    threads = [threading.Thread(target=work) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong


def test_two_identities_share_a_token(token, tmp_path):
    home = Home(tmp_path)
    pair = [
        Identity.create(name, home=home, passphrase=PIN, keystore=token.uri)
        for name in ("lab", "clinic")
    ]
    pair[0].close()
    at = pair[1].history.newest.card.created
    pair[1].signer(at=at).sign(b"m")
    pair[1].close()
    home.close()


def test_the_session_ends_when_nobody_has_the_token_any_more(token):
    chip = shelf(token.uri)
    library, login = chip._library, chip._login
    assert login in library._logins.values()
    del chip
    assert login not in library._logins.values()


FORKED = """
import os, sys
sys.path[:0] = sys.argv[3:]
from counterseal.errors import TrustError
from counterseal.trust.keystores import pkcs11
from counterseal.trust.keystores.uri import parse
chip = pkcs11.unlock(parse(sys.argv[1]), sys.argv[2].encode())
handle, _ = chip.generate("signing", "x")
child = os.fork()
if child == 0:
    try:
        chip.sign(handle, bytes(32))
    except TrustError as error:
        chip.close()
        os._exit(0 if "before the fork" in error.message else 3)
    os._exit(4)
assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
chip.sign(handle, bytes(32))
"""


def test_a_forked_child_leaves_the_parents_session_alone(token):
    subprocess.run(
        [sys.executable, "-c", FORKED, token.uri, PIN.decode(), *filter(None, sys.path)],
        check=True,
        timeout=60,
        env=os.environ,
    )


def test_c_finalize_from_underneath_is_one_clear_error(chip):
    handle, _ = chip.generate("signing", "x")
    chip._library._lib.finalize()
    try:
        with pytest.raises(TrustError, match="seems to be gone"):
            chip.sign(handle, bytes(32))
    finally:
        chip._library._lib.initialize()
        log_out()


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("PinLocked", "locked"),
        ("PinExpired", "set first"),
        ("UserPinNotInitialized", "set first"),
        ("DeviceMemory", "full"),
        ("DeviceRemoved", "gone"),
        ("TokenNotPresent", "gone"),
        ("MechanismInvalid", "refused to sign"),
        ("TokenWriteProtected", "refused to sign"),
    ],
)
def test_what_a_token_says_in_words(name, words):
    error = type(name, (RuntimeError,), {})()
    found = cryptoki._explained(error, "lab", "sign")
    assert words in found.message
    assert '"lab"' in found.message
    assert found.exit_code in {1, 3}


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (0, "few wrong PINs"),
        (0x10000, "few wrong PINs"),
        (0x20000, "one try"),
        (0x40000, "officer"),
    ],
)
def test_how_many_tries_are_left(chip, flags, words):
    state = chip._api.TokenFlag(flags)
    slot = SimpleNamespace(get_token=lambda: SimpleNamespace(flags=state))
    error = chip._library._wrong_pin(SimpleNamespace(label="lab", slot=slot))
    assert words in error.hint
    assert error.message.startswith('wrong PIN for the token "lab"')


def test_a_locked_pin_is_not_even_tried(chip):
    locked = SimpleNamespace(
        label="lab", serial=b"another", flags=chip._api.TokenFlag.USER_PIN_LOCKED
    )
    with pytest.raises(TrustError, match="locked"):
        chip._library.login(locked, PIN)


@pytest.mark.parametrize(
    ("encoded", "good"),
    [
        (b"\x04\x41\x04" + b"\x41" * 64, True),
        (b"\x04" + b"\x41" * 64, True),
        (b"\x04" + bytes(64), True),
        (b"\x02" + bytes(64), False),
        (b"\x04\x41\x04" + bytes(63), False),
        (b"", False),
    ],
)
def test_a_point_comes_wrapped_or_bare(encoded, good):
    point = pkcs11._point(encoded)
    assert (point is not None) is good
    assert point is None or len(point) == 65


def test_a_uri_is_a_value():
    assert parse("pkcs11:token=a") == Pkcs11Uri("a")
