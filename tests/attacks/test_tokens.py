"""What may be done to keys in hardware: by a thief, by a broken token, by whoever pulls it out.

Each row with `without` is made twice, as in test_package.py: against counterseal, and against
counterseal without the one check that is said to stop it. SoftHSM2 and swtpm are the tokens;
what a dishonest one would do is put in their place.
"""

from __future__ import annotations

import shutil
from datetime import UTC, datetime
from types import SimpleNamespace

import pytest
from tokens import PIN, SoftTpm, log_out, shelf
from workshop import Bench, Cast, Cut, attack, undefended

from counterseal.crypto import p256
from counterseal.errors import BadCiphertext, BadSignature, TrustError
from counterseal.trust.home import Home
from counterseal.trust.identity import Identity
from counterseal.trust.keystores import keyring, pkcs11, places
from counterseal.trust.keystores import tpm as tpms
from counterseal.trust.keystores.pkcs11 import Pkcs11Token
from counterseal.trust.keystores.tpm import TpmToken
from counterseal.trust.keystores.tss import Tpm
from counterseal.trust.keystores.uri import TpmUri, parse

AT = datetime(2026, 6, 1, 12, tzinfo=UTC)
STORES = "counterseal.trust.keystores."

NO_SERIAL = Cut(
    STORES + "cryptoki:Library.find",
    "[token for token in found if not serial or text_of(token.serial) == serial]",
    "found",
)
NO_TPM_NAME = Cut(STORES + "tss:Tpm._check_serial", "self.serial and name != self.serial", "False")
PLAIN = Cut(STORES + "tss:Tpm._session", "CONTINUESESSION | encrypted", "CONTINUESESSION")
NO_SAME_PIN = Cut(STORES + "cryptoki:Library.login", "not login.same(pin)", "False")
NO_LIBRARY_CHECK = Cut(
    STORES + "cryptoki:_check_file", "others or found.st_uid not in {0, os.getuid()}", "False"
)
NO_ATTRIBUTES = Cut(
    STORES + "pkcs11:Pkcs11Token._generate", "self._is(private, name) != value", "False"
)
NO_PROOF = Cut(STORES + "token:TokenKeystore._generate", "halves.prove(generation)")
NO_SIGNATURE_CHECK = Cut(
    "counterseal.crypto.p256:sign", "public_key(half.public).verify(signature, digest, prehashed)"
)
NO_POINT_CHECK = Cut("counterseal.crypto.p256:exchange", "public_key(point)")
NO_SECOND_QUESTION = Cut(
    "counterseal.crypto.agreement:AgreementKey._open_p256",
    "p256.check_agreement(key, answered=(ecdh_ct, ecdh_secret))",
)
GENEROUS = Cut(  # a token that takes "not extractable" for a suggestion
    STORES + "pkcs11:Pkcs11Token._generate",
    "**wanted,",
    "**wanted, attribute.EXTRACTABLE: True, attribute.SENSITIVE: False,",
)


@pytest.fixture
def at_hand(softhsm, token, tmp_path, monkeypatch):
    made = SimpleNamespace(
        softhsm=softhsm, token=token, folder=tmp_path, patch=monkeypatch, homes=[]
    )

    def home(name="home"):
        made.homes.append(Home(tmp_path / name))
        return made.homes[-1]

    made.home = home
    yield made
    log_out()
    for one in made.homes:
        one.close()


def create(home, uri, name="lab"):
    return Identity.create(name, home=home, passphrase=PIN, keystore=uri, at=AT)


def flipped(data):
    return bytes([data[0] ^ 1]) + data[1:]


@attack(TrustError, NO_SERIAL)
def exchanged(hand):
    chip = shelf(hand.token.uri)
    serial, uri = chip.serial, hand.token.uri
    chip.close()
    hand.token.unplug()
    hand.softhsm.new(hand.token.label)  # the thief's, who set the PIN to hear ours

    def victim():
        try:
            heard = pkcs11.unlock(parse(uri), PIN, serial=serial)
        finally:
            log_out()
            hand.token.plug_in()
        return heard.serial != serial

    return victim


@attack(TrustError, NO_SAME_PIN)
def beside_an_open_session(hand):
    chip = shelf(hand.token.uri)

    def victim():
        other = shelf(hand.token.uri, b"anything")
        other.generate("signing", "x")
        return chip is not other

    return victim


@attack(TrustError, NO_LIBRARY_CHECK)
def library_of_somebody_else(hand):
    library = hand.folder / "token.so"
    shutil.copy(parse(hand.token.uri).module, library)
    library.chmod(0o777)

    def victim():
        chip = shelf(f"pkcs11:token={hand.token.label.replace(' ', '%20')}?module-path={library}")
        chip.close()
        return True

    return victim


@attack(TrustError, NO_ATTRIBUTES)
def key_that_can_be_read(hand):
    GENEROUS.apply(hand.patch)
    chip = shelf(hand.token.uri)

    def victim():
        handle, _ = chip.generate("signing", "x")
        key = chip._key(handle, may="sign")
        return len(key[chip._api.Attribute.VALUE]) == 32

    return victim


@attack(TrustError, NO_PROOF)
def key_that_it_does_not_have(hand):
    honest = Pkcs11Token.generate

    def lies(chip, purpose, tag):
        handle, point = honest(chip, purpose, tag)
        return handle, p256.fresh_point() if purpose == "agreement" else point

    hand.patch.setattr(Pkcs11Token, "generate", lies)

    def victim():
        return create(hand.home(), hand.token.uri).name == "lab"

    return victim


@attack(TrustError, NO_SIGNATURE_CHECK)
def faulty_signature(hand):
    lab = create(hand.home(), hand.token.uri)
    honest = Pkcs11Token.sign
    hand.patch.setattr(Pkcs11Token, "sign", lambda *given: flipped(honest(*given)))

    def victim():
        signature = lab.signer(at=AT).sign(b"m")
        with pytest.raises(BadSignature):
            lab.history.newest.card.signing.key().verify(b"m", signature)
        return True

    return victim


@attack(TrustError, NO_SECOND_QUESTION)
def faulty_secret(hand):
    lab = create(hand.home(), hand.token.uri)
    sealed = lab.history.newest.card.agreement.key().seal(b"s", info=b"i")
    honest = Pkcs11Token.exchange
    hand.patch.setattr(Pkcs11Token, "exchange", lambda *given: flipped(honest(*given)))

    def victim():
        try:
            lab.openers()[0][1].open(sealed, info=b"i")
        except BadCiphertext:  # what `receive` throws away, though its sender did all right
            return True

    return victim


@attack(BadCiphertext, NO_POINT_CHECK)
def point_of_a_weak_curve(hand):
    lab = create(hand.home(), hand.token.uri)
    sealed = bytearray(lab.history.newest.card.agreement.key().seal(b"s", info=b"i"))
    sealed[1088 + 1 : 1088 + 65] = bytes(32) + b"\1" * 32  # where the sender's point is
    asked = []

    def gullible(_, handle, point):
        asked.append(point)
        return bytes(32)

    hand.patch.setattr(Pkcs11Token, "exchange", gullible)

    def victim():
        try:
            lab.openers()[0][1].open(bytes(sealed), info=b"i")
        except TrustError:
            return bool(asked)

    return victim


@attack(TrustError)
def keystore_of_another_token(hand):
    other = hand.softhsm.new()
    lab = create(hand.home(), hand.token.uri)
    lab.close()
    bank = create(hand.home("bank"), other.uri, "bank")
    bank.close()
    folder = hand.homes[0].identity_folder("lab")
    shutil.copy(hand.homes[1].identity_folder("bank") / "keystore.json", folder)
    text = (folder / "keystore.json").read_text()
    text = text.replace(bank._keystore._serial, lab._keystore._serial)
    (folder / "keystore.json").write_text(
        text.replace(str(bank._keystore.where), str(lab._keystore.where))
    )
    return lambda: Identity.load("lab", home=hand.homes[0], passphrase=PIN)


@attack(TrustError)
def token_that_was_initialized_again(hand):
    lab = create(hand.home(), hand.token.uri)
    lab.close()
    for thing in hand.token.folder.glob("*.object"):
        if thing.name != "token.object":
            thing.unlink()
    return lambda: Identity.load("lab", home=hand.homes[0], passphrase=PIN)


@attack(TrustError)
def keystore_that_others_can_read(hand):
    create(hand.home(), hand.token.uri).close()
    (hand.homes[0].identity_folder("lab") / "keystore.json").chmod(0o644)
    return lambda: Identity.load("lab", home=hand.homes[0], passphrase=PIN)


@attack(TrustError)
def old_copy_after_forgetting(hand):
    lab = create(hand.home(), hand.token.uri)
    path = hand.homes[0].identity_folder("lab") / "keystore.json"
    old = path.read_bytes()
    lab.rotate(passphrase=PIN, at=AT)
    lab.forget_old_keys(passphrase=PIN)
    lab.close()
    path.write_bytes(old)
    return lambda: Identity.load("lab", home=hand.homes[0], passphrase=PIN)


TOKEN = {
    "a token exchanged for another of the same name does not hear the PIN": exchanged,
    "a session that is open does not open another with a wrong PIN": beside_an_open_session,
    "a library that others can change does not see the PIN": library_of_somebody_else,
    "a key that can be read out of its token is not used": key_that_can_be_read,
    "a token that publishes a key it does not have gets no card": key_that_it_does_not_have,
    "a faulty signature does not leave": faulty_signature,
    "a token that miscounts does not make a good letter look forged": faulty_secret,
    "a point of another curve does not reach the token": point_of_a_weak_curve,
    "the keystore file of another token opens nothing": keystore_of_another_token,
    "a token that was initialized again says so": token_that_was_initialized_again,
    "a keystore that others can read is refused": keystore_that_others_can_read,
    "an old copy of the file does not bring forgotten keys back": old_copy_after_forgetting,
}


@pytest.mark.parametrize("sentence", TOKEN)
def test_with_a_token(sentence, at_hand):
    error = TOKEN[sentence].is_refused(at_hand)
    assert PIN.decode() not in f"{error.message} {error.hint}"


@pytest.mark.parametrize("sentence", undefended(TOKEN))
def test_it_is_that_check(sentence, at_hand, monkeypatch):
    TOKEN[sentence].works_undefended(at_hand, monkeypatch)


def test_another_tpm_at_the_same_place_does_not_hear_the_pin(tpm, monkeypatch):
    chip = shelf(tpm.uri)
    handle, _ = chip.generate("signing", "x")
    tpm.kill()
    thief = SoftTpm()
    try:
        thief.kill()
        tpm.become(thief)
        tpm.start()
        with pytest.raises(TrustError, match="another one, or was cleared"):
            chip.sign(handle, bytes(32))
        NO_TPM_NAME.apply(monkeypatch)
        with pytest.raises(TrustError, match="does not know this key"):  # here it was asked
            chip.sign(handle, bytes(32))
    finally:
        thief.close()


def test_a_tpm_key_does_not_load_into_another_tpm(tpm):
    chip = shelf(tpm.uri)
    handle, _ = chip.generate("signing", "x")
    other = SoftTpm()
    try:
        with pytest.raises(TrustError, match="does not know this key"):
            shelf(other.uri).sign(handle, bytes(32))
    finally:
        other.close()


def test_somebody_who_guesses_at_a_tpm_is_locked_out(tpm, tmp_path):
    home = Home(tmp_path)
    create(home, tpm.uri).close()
    said = []
    for guess in range(32):
        with pytest.raises(TrustError) as caught:
            Identity.load("lab", home=home, passphrase=b"%06d" % guess)
        said.append(f"{caught.value.message}: {caught.value.hint}")
    assert "tries left before the TPM locks itself: 2" in said[0]
    assert "locked after wrong PINs" in said[-1]
    with pytest.raises(TrustError, match="locked"):  # the right one is not even tried
        Identity.load("lab", home=home, passphrase=PIN)
    home.close()


def test_a_private_half_does_not_come_out_of_a_pkcs11_token(token):
    chip = shelf(token.uri)
    signs, _ = chip.generate("signing", "x")
    agrees, _ = chip.generate("agreement", "x")
    api, session = chip._api, chip._login.session
    attribute, flag = api.Attribute, api.MechanismFlag
    wrapping = session.generate_key(
        api.KeyType.AES, 256, store=False, capabilities=flag.WRAP | flag.UNWRAP
    )
    for handle, may in ((signs, "sign"), (agrees, "derive_key")):
        key = chip._key(handle, may=may)
        for attempt in (
            lambda key=key: key[attribute.VALUE],
            lambda key=key: key.__setitem__(attribute.EXTRACTABLE, True),
            lambda key=key: key.__setitem__(attribute.SENSITIVE, False),
            lambda key=key: key.__setitem__(attribute.DERIVE, True),
            lambda key=key: key.__setitem__(attribute.SIGN, True),
            lambda key=key: key.copy({attribute.EXTRACTABLE: True}),
            lambda key=key: wrapping.wrap_key(key, mechanism=api.Mechanism.AES_KEY_WRAP_PAD),
        ):
            with pytest.raises(api.PKCS11Error):
                attempt()
        assert key[attribute.NEVER_EXTRACTABLE]
    chip.close()


def test_a_private_half_does_not_come_out_of_a_tpm(tpm):
    chip = shelf(tpm.uri)
    api = chip._api
    for purpose in ("signing", "agreement"):
        handle, _ = chip.generate(purpose, "x")
        with chip._tpm.visit("test") as visit:
            public, private = chip._split(handle)
            with visit.loaded(public, private, chip._auth) as key:
                none = api.TPMT_SYM_DEF_OBJECT(algorithm=api.TPM2_ALG.NULL)
                with pytest.raises(api.TSS2_Exception):
                    visit.chip.duplicate(key, api.ESYS_TR.NULL, api.TPM2B_DATA(), none)
                with pytest.raises(api.TSS2_Exception):
                    visit.chip.unseal(key, session1=visit.session)


def heard_on_the_bus(device, file, monkeypatch):
    """What an interposer between us and the chip has: all bytes, and the key that was kept."""
    monkeypatch.setenv("TCTI_PCAP_FILE", str(file))
    chip = TpmToken(Tpm(TpmUri(f"pcap:{device.uri.removeprefix('tpm:')}")), PIN)
    handle, _ = chip.generate("signing", "x")
    chip.sign(handle, bytes(32))
    ticket, key = chip.keep_key()
    assert chip.recall_key(ticket) == key
    chip.change_pin([handle], b"another PIN")
    return file.read_bytes(), key


def test_neither_pin_nor_key_is_heard_on_the_way_to_a_tpm(tpm, tmp_path, monkeypatch):
    heard, key = heard_on_the_bus(tpm, tmp_path / "bus", monkeypatch)
    assert len(heard) > 4000
    for secret in (PIN, tpms._authorization(PIN), tpms._authorization(b"another PIN"), key):
        assert secret not in heard
    PLAIN.apply(monkeypatch)
    heard, key = heard_on_the_bus(tpm, tmp_path / "plain", monkeypatch)
    assert key in heard
    assert tpms._authorization(PIN) in heard


def pulled_out_before(call, device, monkeypatch):
    """The device goes before its `call`-th operation; returns how many were counted."""
    count = [0]

    def counted(original):
        def wrapper(self, *given, **named):
            if count[0] == call:
                device.kill() if isinstance(device, SoftTpm) else device.unplug()
            count[0] += 1
            return original(self, *given, **named)

        return wrapper

    monkeypatch.setattr(Tpm, "visit", counted(Tpm.visit))
    monkeypatch.setattr(Pkcs11Token, "_speaking", counted(Pkcs11Token._speaking))
    return count


def put_back(device):
    log_out()
    if isinstance(device, SoftTpm):
        device.start()
        device.forgive()
    else:
        device.plug_in()


@pytest.mark.parametrize("kind", ["token", "tpm"])
@pytest.mark.parametrize("deed", ["create", "load", "rotate", "forget", "seal", "open"])
def test_pulled_out_at_any_moment_nothing_is_half_done(kind, deed, request, tmp_path, monkeypatch):
    device = request.getfixturevalue(kind)
    home, bench = Home(tmp_path / "home"), Bench(Cast(at=AT), tmp_path, AT)
    clinic, sealed = bench.cast.clinic, None
    if deed != "create":
        lab = create(home, device.uri)
        if deed == "forget":
            lab.rotate(passphrase=PIN, at=AT)
        sealed = bench.seal({"a": b"model"}, by=clinic, to=[lab])
        lab.close()

    def load():
        return Identity.load("lab", home=home, passphrase=PIN)

    deeds = {
        "create": lambda _: create(home, device.uri),
        "load": lambda _: load(),
        "rotate": lambda lab: lab.rotate(passphrase=PIN, at=AT),
        "forget": lambda lab: lab.forget_old_keys(passphrase=PIN),
        "seal": lambda lab: bench.seal({"a": b"model"}, by=lab, to=[clinic]),
        "open": lambda lab: bench.read(sealed, by=lab, sender=clinic),
    }
    packages = len(list(tmp_path.glob("*.sealed")))
    for call in range(40):
        lab = load() if deed not in {"create", "load"} else None
        with monkeypatch.context() as patch:
            count = pulled_out_before(call, device, patch)
            try:
                deeds[deed](lab)
            except TrustError as error:
                assert error.hint  # noqa: PT017 - the loop ends where there is none
            else:
                if count[0] <= call:
                    break
                # The last thing that a rotation does is to clean up, which can wait.
                assert deed == "rotate", "it went on without its token"
        put_back(device)
        assert len(list(tmp_path.glob("*.sealed"))) == packages
        assert not list(tmp_path.rglob("*.part"))
        if deed == "create":
            assert home.identities() == []
            continue
        lab = load()
        assert bench.read(sealed, by=lab, sender=clinic) == {"a": b"model"}
        lab.signer(at=AT).sign(b"m")
        lab.close()
    else:
        pytest.fail("it never came to an end")
    assert call > 0
    if deed == "rotate" and kind == "token":
        lab.forget_old_keys(passphrase=PIN)
        assert device.objects() == 4
    log_out()
    home.close()


def test_a_ring_in_a_token_is_not_packed_as_one_in_memory(at_hand):
    lab = create(at_hand.home(), at_hand.token.uri)
    with pytest.raises(TypeError):
        keyring.pack(lab._ring)
    assert b"token-keyring" in places.pack(lab._ring)
