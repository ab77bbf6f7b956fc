"""Sealed messages: who can open them, what a relay sees of them, and that every byte counts."""

import hashlib
import hmac

import pytest
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from workshop import AT, Cast, flip

from counterseal.crypto.agreement import AgreementKey, AgreementSuite
from counterseal.errors import BadCiphertext, CountersealError, FormatError, UnknownVersion
from counterseal.exchange import sealing
from counterseal.exchange.sealing import PAD_TO, open_sealed_message, seal_message
from counterseal.trust.card import AgreementPublic
from counterseal.trust.prekeys import prekey_id
from counterseal.wire import limits

SUITES = pytest.mark.parametrize("hardware", [(), ("clinic",)], ids=["x25519", "p256"])


def prekey_of(cast, recipient, sender):
    """(id, public key) of the one prekey that `recipient` made for `sender`."""
    bundle = cast.with_prekeys(recipient, sender, count=1).prekeys
    public = bundle.keys[0]
    return prekey_id(public), public.key()


def seal(message, to, prekey=None):
    return seal_message(message, to=to.history.newest, prekey=prekey)


def opened(data, by, sender):
    return open_sealed_message(data, by=by, partner=sender.history.identity)


@SUITES
@pytest.mark.parametrize("with_prekey", [False, True])
@pytest.mark.parametrize("size", [0, 1, PAD_TO - 4, PAD_TO - 3, 3 * PAD_TO])
def test_what_is_sealed_opens(hardware, with_prekey, size):
    cast = Cast(hardware=hardware)
    prekey = prekey_of(cast, cast.clinic, cast.lab) if with_prekey else None
    message = bytes(range(256)) * (size // 256) + bytes(size % 256)
    data = seal(message, cast.clinic, prekey)
    assert data[8] == (2 if hardware else 0) + with_prekey
    assert opened(data, cast.clinic, cast.lab) == message
    with pytest.raises(BadCiphertext, match="not sealed for us"):
        opened(data, cast.bank, cast.lab)


def bind(label, *parts):
    """SPEC 1.1, once more."""
    lengths = b"".join(len(part).to_bytes(4, "big") + part for part in parts)
    return b"counterseal/1 " + label + b"\0" + lengths


def hkdf(salt, secret, info):
    """RFC 5869 with SHA-512, one block."""
    key = hmac.digest(salt, secret, "sha512")
    return hmac.digest(key, info + b"\1", "sha512")[:32]


@SUITES
@pytest.mark.parametrize("with_prekey", [False, True])
def test_opened_by_hand_as_the_specification_says(hardware, with_prekey):
    """SPEC 10.2, with nothing of `sealing`."""
    cast = Cast(hardware=hardware)
    prekey = prekey_of(cast, cast.clinic, cast.lab) if with_prekey else None
    data = seal(b"message", cast.clinic, prekey)
    share = 1201 if hardware else 1168
    assert data[:8] == bytes.fromhex("8963736c6574010a")
    salt, hint, at = data[9:25], data[25:41], 41
    card, pre = bytes.fromhex(cast.clinic.key_id), b""
    assert hint == hashlib.sha256(bind(b"letter hint", salt, card)).digest()[:16]
    openers = [cast.clinic.openers()[0][1]]
    if with_prekey:
        pre = bytes.fromhex(prekey[0])
        expected = hashlib.sha256(bind(b"letter prekey hint", salt, pre)).digest()[:16]
        assert data[at : at + 16] == expected
        openers.append(cast.clinic.prekeys.opener(prekey[0], partner=cast.lab.history.identity))
        at += 16
    info, secret = bind(b"letter share", salt, card, pre), b""
    for opener in openers:
        secret += opener.open(data[at : at + share], info=info)
        at += share
    kek = hkdf(salt, secret, bind(b"letter key", card, pre))
    salt2, sealed = data[at : at + 32], data[at + 32 :]
    key = hmac.digest(kek, bind(b"letter", salt2) + b"\1", "sha512")[:32]
    padded = AESGCM(key).decrypt(bytes(12), sealed, None)
    assert padded == b"\0\0\0\x07message" + bytes(PAD_TO - 11)


def test_two_letters_share_nothing_but_their_length(cast):
    one, two = seal(b"yes", cast.clinic), seal(b"no, never" * 9, cast.clinic)
    assert len(one) == len(two)
    assert one[:9] == two[:9]  # magic and type
    assert not any(one[at : at + 8] in two for at in range(9, len(one) - 8))


@SUITES
@pytest.mark.parametrize("with_prekey", [False, True])
def test_every_byte_counts(hardware, with_prekey):
    cast = Cast(hardware=hardware)
    prekey = prekey_of(cast, cast.clinic, cast.lab) if with_prekey else None
    data = seal(b"message", cast.clinic, prekey)
    head = len(data) - PAD_TO
    for at in [*range(0, head, 7), *range(48), *range(head, len(data), 997), len(data) - 1]:
        with pytest.raises((BadCiphertext, FormatError)):
            opened(flip(data, at, at % 8), cast.clinic, cast.lab)
    for length in (0, 1, 8, 9, 40, head, len(data) - 1):
        with pytest.raises((BadCiphertext, FormatError)):
            opened(data[:length], cast.clinic, cast.lab)
    with pytest.raises(BadCiphertext):
        opened(data + b"\0", cast.clinic, cast.lab)


def test_the_type_is_not_taken_for_another(cast):
    data = seal(b"message", cast.clinic)
    for number in range(1, 256):
        with pytest.raises(CountersealError):
            opened(data[:8] + bytes([number]) + data[9:], cast.clinic, cast.lab)
    with pytest.raises(UnknownVersion):
        opened(data[:8] + b"\x04" + data[9:], cast.clinic, cast.lab)


def test_versions(cast):
    data = seal(b"message", cast.clinic)
    with pytest.raises(UnknownVersion, match="newer version"):
        opened(data[:6] + b"\x02" + data[7:], cast.clinic, cast.lab)
    for other in (b"", b"\x89", b"PK\3\4" + data):
        with pytest.raises(FormatError, match="not a letter"):
            opened(other, cast.clinic, cast.lab)


def test_lengths(cast):
    longest = limits.LETTER_BYTES - limits.LETTER_ROOM
    data = seal(bytes(longest), cast.clinic)
    assert len(data) <= limits.LETTER_BYTES
    assert len(opened(data, cast.clinic, cast.lab)) == longest
    with pytest.raises(FormatError, match="too long"):
        seal(bytes(longest + 1), cast.clinic)
    with pytest.raises(FormatError, match="too long"):
        opened(data + bytes(limits.LETTER_BYTES), cast.clinic, cast.lab)


@pytest.mark.parametrize(
    "padded",
    [
        b"",
        bytes(PAD_TO - 1),
        bytes(PAD_TO + 1),
        bytes(2 * PAD_TO),
        (1).to_bytes(4, "big") + b"m" + b"\1" + bytes(PAD_TO - 6),
        (PAD_TO).to_bytes(4, "big") + bytes(PAD_TO - 4),
        b"\xff\xff\xff\xff" + bytes(PAD_TO - 4),
    ],
    ids=["nothing", "short", "long", "twice", "not zeros", "beyond the end", "far beyond the end"],
)
def test_padding_has_one_form(cast, padded, monkeypatch):
    """Only a sender could write it otherwise: a place to hide something, or a second spelling."""
    monkeypatch.setattr(sealing, "_pad", lambda message: padded)
    data = seal(b"m", cast.clinic)
    monkeypatch.undo()
    with pytest.raises(FormatError, match="filled up wrongly"):
        opened(data, cast.clinic, cast.lab)


def test_a_share_of_another_length_is_refused(cast, monkeypatch):
    """HKDF would take any; the sealed length is fixed, so a sender cannot even write it."""
    monkeypatch.setattr(sealing, "KEY_BYTES", 31)
    data = seal(b"m", cast.clinic)
    monkeypatch.undo()
    with pytest.raises((BadCiphertext, FormatError)):
        opened(data, cast.clinic, cast.lab)


def test_an_older_card_still_opens_until_its_keys_are_forgotten(cast):
    data = seal(b"before", cast.clinic)
    cast.clinic.rotate(at=AT)
    assert opened(data, cast.clinic, cast.lab) == b"before"
    assert opened(seal(b"after", cast.clinic), cast.clinic, cast.lab) == b"after"
    cast.clinic.forget_old_keys()
    with pytest.raises(BadCiphertext):
        opened(data, cast.clinic, cast.lab)


def test_a_revoked_card_opens_nothing(cast):
    data = seal(b"for the thief", cast.clinic)
    cast.clinic.revoke(reason="compromised", at=AT)
    with pytest.raises(BadCiphertext):
        opened(data, cast.clinic, cast.lab)


def test_a_prekey_opens_letters_of_its_partner_only(cast):
    prekey = prekey_of(cast, cast.clinic, cast.lab)
    data = seal(b"m", cast.clinic, prekey)
    with pytest.raises(BadCiphertext, match="prekey"):
        opened(data, cast.clinic, cast.rival)
    assert opened(data, cast.clinic, cast.lab) == b"m"


@SUITES
def test_who_has_all_long_term_keys_cannot_read_what_was_recorded(hardware):
    """Forward secrecy: after the prekey is deleted, the card's keys and the store's key are not
    enough. The control without a prekey shows that the thief's program works.
    """
    cast = Cast(hardware=hardware)
    prekey = prekey_of(cast, cast.clinic, cast.lab)
    recorded, control = seal(b"secret", cast.clinic, prekey), seal(b"secret", cast.clinic)
    assert opened(recorded, cast.clinic, cast.lab) == b"secret"
    cast.clinic.prekeys.delete(prekey[0])
    thief = cast.clinic  # ring and store, all of it
    assert opened(control, thief, cast.lab) == b"secret"
    with pytest.raises(BadCiphertext, match="prekey"):
        opened(recorded, thief, cast.lab)
    # With the first share, which the thief has, and any second one, the body stays closed.
    other = AgreementKey.generate(AgreementSuite.P256 if hardware else AgreementSuite.X25519)
    thief.prekeys.put(other, partner=cast.lab.history.identity, expires=AT)
    identifier = prekey_id(AgreementPublic.of(other.public))
    at = 8 + 1 + 16 + 16
    hint = sealing._hint("letter prekey hint", recorded[9:25], identifier)
    with pytest.raises(BadCiphertext):
        opened(recorded[:at] + hint + recorded[at + 16 :], thief, cast.lab)


def test_a_prekey_alone_opens_nothing(cast):
    prekey = prekey_of(cast, cast.clinic, cast.lab)
    data = seal(b"secret", cast.clinic, prekey)
    openers = cast.clinic.openers
    cast.clinic.openers = lambda: [(cast.bank.key_id, cast.bank.openers()[0][1])]
    with pytest.raises(BadCiphertext):
        opened(data, cast.clinic, cast.lab)
    cast.clinic.openers = openers
    assert opened(data, cast.clinic, cast.lab) == b"secret"


def test_a_prekey_of_another_suite_is_not_used():
    cast = Cast(hardware=("clinic",))
    prekey = prekey_of(cast, cast.bank, cast.lab)
    with pytest.raises(FormatError, match="another suite"):
        seal(b"m", cast.clinic, prekey)
