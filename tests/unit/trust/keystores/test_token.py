"""What every token does for an identity: the same for PKCS#11 and TPM."""

from __future__ import annotations

import base64
import json
import os
import pickle
from datetime import UTC, datetime, timedelta
from pprint import pformat
from typing import TYPE_CHECKING

import pytest
from tokens import PIN, shelf

from counterseal.crypto import p256, statement
from counterseal.errors import BadCiphertext, FormatError, TrustError
from counterseal.trust import backup, recovery
from counterseal.trust.home import Home
from counterseal.trust.identity import Identity
from counterseal.trust.keystores import file as keystore_file
from counterseal.trust.keystores import halves, places
from counterseal.wire import canonical, limits

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from counterseal.crypto.passphrase import Cost
    from counterseal.crypto.signing import SigningKey

AT = datetime(2026, 3, 1, tzinfo=UTC)


@pytest.fixture(params=["token", "tpm"], ids=["pkcs11", "tpm"])
def device(request: pytest.FixtureRequest):
    return request.getfixturevalue(request.param)


@pytest.fixture
def home(tmp_path: Path) -> Iterator[Home]:
    made = Home(tmp_path / "home")
    yield made
    made.close()


@pytest.fixture
def lab(device, home: Home) -> Iterator[Identity]:
    made = Identity.create("lab", home=home, passphrase=PIN, keystore=device.uri, at=AT)
    yield made
    made.close()


@pytest.fixture(autouse=True)
def least_cost(monkeypatch: pytest.MonkeyPatch, cheap: Cost) -> None:
    real = keystore_file.passphrases.Cost
    monkeypatch.setattr(
        keystore_file.passphrases, "Cost", lambda *given: real(*given) if given else cheap
    )


def works(identity: Identity, at: datetime = AT) -> None:
    """Each of its keys does what the card says."""
    card = identity.history.newest.card
    card.signing.key().verify(b"m", identity.signer(at=at).sign(b"m"))
    statement.verify(card.statement, b"m", identity.sign_statement(b"m", at=at))
    sealed = card.agreement.key().seal(b"secret", info=b"i")
    assert identity.openers()[0][1].open(sealed, info=b"i") == b"secret"


def again(home: Home, pin: bytes = PIN) -> Identity:
    return Identity.load("lab", home=home, passphrase=pin)


def test_an_identity_works_and_comes_back(lab: Identity, home: Home) -> None:
    works(lab)
    kept = lab.protect(b"s", label="x")
    lab.close()
    back = again(home)
    works(back)
    assert back.unprotect(kept, label="x") == b"s"
    assert back.key_id == lab.key_id
    back.close()


def test_its_suite_says_p256(lab: Identity) -> None:
    card = lab.history.newest.card
    assert (card.signing.suite, card.agreement.suite) == ("p256+mldsa65", "p256+mlkem768")


def test_nothing_answers_after_close(lab: Identity) -> None:
    lab.close()
    lab.close()
    sealed = lab.history.newest.card.agreement.key().seal(b"secret", info=b"i")
    for use in (
        lambda: lab.signer(at=AT).sign(b"m"),
        lambda: lab.openers()[0][1].open(sealed, info=b"i"),
        lambda: lab.sign_statement(b"m", at=AT),
    ):
        with pytest.raises(TrustError, match="closed"):
            use()


def test_rotation_keeps_the_old_keys_until_they_are_forgotten(lab: Identity, home: Home) -> None:
    sealed = lab.history.newest.card.agreement.key().seal(b"old", info=b"i")
    later = AT + timedelta(days=1)
    lab.rotate(passphrase=PIN, at=later)
    works(lab, later)
    lab.close()
    back = again(home)
    works(back, later)
    assert back.openers()[1][1].open(sealed, info=b"i") == b"old"
    assert back.forget_old_keys(passphrase=PIN) == 1
    works(back, later)
    back.close()
    back = again(home)
    assert len(back.openers()) == 1
    works(back, later)
    back.close()


def test_the_file_holds_no_secret_in_the_clear(lab: Identity, home: Home) -> None:
    ring = lab._ring
    data = (home.identity_folder("lab") / "keystore.json").read_bytes()
    keys = next(iter(ring._generations.values()))
    for secret in (ring._store_key, keys.signing.pq_seed(), keys.agreement.pq_seed(), PIN):
        assert secret not in data
        assert base64.b64encode(secret)[:-4] not in data


def test_neither_pin_nor_seed_is_in_a_text(lab: Identity) -> None:
    keys = next(iter(lab._ring._generations.values()))
    texts = [repr(value) for value in (lab, lab._keystore, keys.signing.outside, lab._ring)]
    texts += [pformat(vars(lab)), pformat(vars(lab._keystore)), str(lab._keystore.place)]
    for text in texts:
        assert PIN.decode() not in text
        assert keys.signing.pq_seed().hex() not in text
    with pytest.raises(TypeError):
        pickle.dumps(lab._keystore)


def test_a_wrong_pin_says_so_and_never_itself(lab: Identity, home: Home) -> None:
    lab.close()
    with pytest.raises(TrustError, match="wrong PIN") as caught:
        again(home, b"999999")
    assert caught.value.hint
    assert "999999" not in f"{caught.value} {caught.value.hint}"
    back = again(home)
    works(back)
    back.close()


@pytest.mark.parametrize("pin", [b"", b"\xff\xfe"])
def test_what_is_no_pin(pin: bytes, lab: Identity, home: Home) -> None:
    lab.close()
    with pytest.raises((FormatError, TrustError)):
        again(home, pin)


def test_a_backup_comes_back_only_with_the_token(lab: Identity, tmp_path: Path) -> None:
    data = backup.make(lab, b"backup pass")
    lab.close()
    other = Home(tmp_path / "other")
    with pytest.raises(TrustError, match="in a token") as caught:
        backup.restore(data, b"backup pass", home=other)
    assert "--without-keys" in str(caught.value.hint)
    assert other.identities() == []
    back = backup.restore(data, b"backup pass", home=other, pin=PIN)
    works(back)
    back.close()
    back = again(other)
    works(back)
    back.close()
    other.close()


def test_a_backup_without_its_token_brings_the_rest(
    device, home: Home, tmp_path: Path, recovery_keys: tuple[SigningKey, ...]
) -> None:
    named = recovery.public_part(recovery_keys, threshold=2)
    lab = Identity.create(
        "lab", home=home, passphrase=PIN, keystore=device.uri, recovery=named, at=AT
    )
    home.store.put("seen", "mark", b"1")
    data = backup.make(lab, b"backup pass")
    lab.close()
    other = Home(tmp_path / "other")
    history = backup.restore_without_keys(data, b"backup pass", home=other)
    assert history == lab.history
    assert other.store.get("seen", "mark") == b"1"
    with pytest.raises(TrustError, match="is gone"):
        again(other, b"new pass")
    back = Identity.recover(
        history, home=other, passphrase=b"new pass", recovery_keys=recovery_keys[:2], at=AT
    )
    works(back)
    assert back._keystore.place == "file, under a passphrase"
    other.close()


def test_recovery_stays_in_the_token_unless_told_otherwise(
    device, home: Home, recovery_keys: tuple[SigningKey, ...]
) -> None:
    named = recovery.public_part(recovery_keys, threshold=2)
    lab = Identity.create(
        "lab", home=home, passphrase=PIN, keystore=device.uri, recovery=named, at=AT
    )
    lab.close()
    back = Identity.recover(
        lab.history, home=home, passphrase=PIN, recovery_keys=recovery_keys[:2], at=AT
    )
    works(back)
    assert back._keystore.asks_for == "PIN"
    back.close()
    back = Identity.recover(
        back.history,
        home=home,
        passphrase=b"pw",
        recovery_keys=recovery_keys[:2],
        keystore="file",
        at=AT,
    )
    works(back)
    assert back._keystore.asks_for == "passphrase"


def test_an_identity_moves_into_a_token(device, home: Home) -> None:
    lab = Identity.create("lab", home=home, passphrase=b"pw", at=AT)
    sealed = lab.history.newest.card.agreement.key().seal(b"old", info=b"i")
    kept = lab.protect(b"s", label="x")
    lab.rotate(passphrase=PIN, keystore=device.uri, at=AT)
    works(lab)
    lab.close()
    back = again(home)
    works(back)
    assert back.openers()[1][1].open(sealed, info=b"i") == b"old"
    assert back.unprotect(kept, label="x") == b"s"
    assert back.history.newest.card.signing.suite == "p256+mldsa65"
    with pytest.raises(TrustError, match="cannot leave"):
        back.rotate(passphrase=b"pw", keystore="file", at=AT)
    assert back.forget_old_keys(passphrase=PIN) == 1
    works(back)
    back.close()


def test_a_token_needs_a_home() -> None:
    with pytest.raises(ValueError, match="home"):
        Identity.create("lab", passphrase=PIN, keystore="pkcs11:token=x")


def test_create_leaves_nothing_behind_when_the_disk_is_full(
    device, home: Home, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object, **__: object) -> None:
        raise OSError(28, "no space left on device")

    before = device.objects() if hasattr(device, "objects") else 0
    with monkeypatch.context() as patch:
        patch.setattr("counterseal.trust.atomic.write_whole", full)
        with pytest.raises(OSError, match="no space"):
            Identity.create("lab", home=home, passphrase=PIN, keystore=device.uri, at=AT)
    assert home.identities() == []
    assert (device.objects() if hasattr(device, "objects") else 0) == before
    Identity.create("lab", home=home, passphrase=PIN, keystore=device.uri, at=AT).close()


def test_rotate_leaves_everything_as_it_was_when_the_disk_is_full(
    device, lab: Identity, home: Home, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object, **__: object) -> None:
        raise OSError(28, "no space left on device")

    before = device.objects() if hasattr(device, "objects") else 0
    key_id = lab.key_id
    with monkeypatch.context() as patch:
        patch.setattr("counterseal.trust.atomic.write_whole", full)
        with pytest.raises(OSError, match="no space"):
            lab.rotate(passphrase=PIN, at=AT)
    assert lab.key_id == key_id
    assert (device.objects() if hasattr(device, "objects") else 0) == before
    works(lab)
    lab.close()
    back = again(home)
    works(back)
    back.close()


def test_a_changed_keystore_is_noticed(lab: Identity, home: Home) -> None:
    lab.close()
    path = home.identity_folder("lab") / "keystore.json"
    good = json.loads(path.read_bytes())
    for field, value in {
        "sealed": good["sealed"][:-8] + "AAAAAAA=",
        "ticket": "AAAA",
        "serial": "0" * 16,
        "format": 2,
        "token": "pkcs11:token=a;slot-id=1",
    }.items():
        changed = json.dumps({**good, field: value}, sort_keys=True, separators=(",", ":"))
        path.write_text(changed)
        with pytest.raises((TrustError, FormatError)):
            again(home)
    path.write_text(json.dumps(good, sort_keys=True, separators=(",", ":")))
    back = again(home)
    works(back)
    back.close()


def test_where_the_keys_are_is_known_without_the_pin(lab: Identity, home: Home) -> None:
    lab.close()
    keystore = Identity.keystore_of("lab", home=home)
    assert keystore.check().endswith("which is here")
    assert keystore.asks_for == "PIN"
    assert "token" in keystore.place or "TPM" in keystore.place


def test_a_key_for_one_purpose_does_nothing_else(device) -> None:
    chip = shelf(device.uri)
    signs, _ = chip.generate("signing", "x")
    agrees, _ = chip.generate("agreement", "x")
    ticket, _ = chip.keep_key()
    for wrong in (
        lambda: chip.exchange(signs, p256.fresh_point()),
        lambda: chip.sign(agrees, bytes(32)),
        lambda: chip.sign(ticket[:16] if len(ticket) == 81 else ticket, bytes(32)),
    ):
        with pytest.raises(TrustError):
            wrong()
    chip.close()


def test_a_kept_key_comes_back_only_by_its_ticket(device) -> None:
    chip = shelf(device.uri)
    (one, key), (two, other) = chip.keep_key(), chip.keep_key()
    assert key != other
    assert len(key) == 32
    assert (chip.recall_key(one), chip.recall_key(two)) == (key, other)
    for ticket in (b"", os.urandom(16), os.urandom(81), one[:-1], one + b"\0"):
        with pytest.raises((TrustError, FormatError)):
            chip.recall_key(ticket)
    chip.close()


def test_handles_that_are_none(device) -> None:
    chip = shelf(device.uri)
    for handle in (b"", b"\0", os.urandom(16), bytes(200)):
        with pytest.raises((TrustError, FormatError)):
            chip.sign(handle, bytes(32))
    chip.close()


def test_what_a_ring_of_another_kind_is(lab: Identity, generations) -> None:
    packed = halves.read(places.pack(lab._ring))
    assert packed.serial == lab._keystore._token.serial
    assert len(canonical.encode(packed)) < limits.KEYSTORE_BYTES // 256
    with pytest.raises(BadCiphertext):
        lab._ring.without(lab._ring.cards).signer(lab.key_id)
