"""Private bytes are in no text that a program prints by accident."""

from __future__ import annotations

import base64
import copy
import json
import pickle
import traceback
from datetime import datetime
from pprint import pformat
from typing import TYPE_CHECKING

import pytest

from counterseal.crypto.agreement import AgreementKey
from counterseal.crypto.signing import SigningKey
from counterseal.errors import CountersealError, FormatError
from counterseal.trust import recovery
from counterseal.trust.identity import Identity
from counterseal.trust.keystores import file as keystore_file
from counterseal.trust.keystores import keyring
from counterseal.trust.keystores.keyring import Generation, KeyRing
from counterseal.trust.prekeystore import _Stored
from counterseal.wire import canonical, limits

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from counterseal.crypto.passphrase import Cost

CARD = "a" * 64
PASSPHRASE = b"correct horse battery staple"


@pytest.fixture(scope="module")
def ring(generations: tuple[Generation, ...]) -> KeyRing:
    return KeyRing.create(CARD, generations[0]).with_generation("b" * 64, generations[2])


def secrets_of(ring: KeyRing) -> Iterator[bytes]:
    yield ring._store_key
    for keys in ring._generations.values():
        yield from keys.signing.seeds()
        yield from keys.agreement.seeds()
        yield keys.statement.scalar()


def spellings(secret: bytes) -> Iterator[str]:
    """Every way a part of it could come to stand in a text."""
    part = secret[:12]
    yield part.hex()
    yield part.hex().upper()
    yield part.hex(":")
    yield base64.b64encode(part).decode()
    yield base64.urlsafe_b64encode(part).decode()
    yield repr(part)[2:-1]
    yield str(list(part))[1:-1]
    yield str(int.from_bytes(secret, "big"))
    yield part.decode("latin-1")


def assert_clean(text: str, ring: KeyRing) -> None:
    for secret in (*secrets_of(ring), PASSPHRASE):
        for spelling in spellings(secret):
            assert spelling not in text


def texts(value: object) -> Iterator[str]:
    yield repr(value)
    yield str(value)
    yield f"{value}"
    yield "%s" % (value,)  # noqa: UP031 - one of the ways
    yield pformat({"value": [value]})
    yield pformat(getattr(value, "__dict__", None))


def test_the_test_would_notice(ring: KeyRing) -> None:
    for text in (repr(keyring.pack(ring)), ring._store_key.hex(), str(list(ring._store_key))):
        with pytest.raises(AssertionError):
            assert_clean(text, ring)


def test_key_objects(ring: KeyRing) -> None:
    for keys in ring._generations.values():
        for value in (keys, keys.signing, keys.agreement, keys.statement):
            for text in texts(value):
                assert_clean(text, ring)


def test_the_key_ring(ring: KeyRing) -> None:
    for text in (repr(ring), str(ring), pformat([ring])):
        assert text.strip("[]") == "<KeyRing of 2>"


def test_the_unpacked_documents(ring: KeyRing) -> None:
    packed = canonical.decode(
        keyring.pack(ring), keyring._Packed, limit=limits.KEYSTORE_BYTES, what="ring"
    )
    generation = next(iter(ring._generations.values()))
    classical, pq = generation.signing.seeds()
    kept = recovery._RecoveryKey(
        kind="recovery-key",
        format=1,
        suite=generation.signing.public.suite,
        classical=classical,
        pq=pq,
    )
    agreement = generation.agreement.seeds()
    prekey = _Stored(
        suite=generation.agreement.public.suite,
        classical=agreement[0],
        pq=agreement[1],
        partner="0" * 64,
        expires=datetime.fromisoformat("2026-01-01T00:00:00Z"),
    )
    for value in (packed, *packed.generations, kept, prekey):
        for text in texts(value):
            assert_clean(text, ring)
        # rich, which many programs install for their tracebacks, asks this one first
        assert_clean(repr(list(value.__rich_repr__())), ring)


def test_an_identity_and_what_hangs_on_it(ring: KeyRing, now: datetime) -> None:
    lab = Identity.create("lab", at=now)
    for text in texts(lab):
        assert_clean(text, lab._ring)
    for value in (lab.prekeys, lab.openers(), lab.signer(at=now)):
        assert_clean(repr(value) + pformat(value), lab._ring)


def failures(ring: KeyRing, cheap: Cost) -> Iterator[BaseException]:
    """Errors of every kind that private bytes come near."""
    data = keystore_file.encrypt(keyring.pack(ring), PASSPHRASE, kind="keystore", cost=cheap)
    for attempt in (
        lambda: keystore_file.decrypt(data, PASSPHRASE + b"!", kind="keystore"),
        lambda: keystore_file.decrypt(data, PASSPHRASE, kind="recovery-key"),
        lambda: keystore_file.decrypt(data, PASSPHRASE * 200, kind="keystore"),
        lambda: ring.unprotect(b"", label="x"),
        lambda: ring.signer("c" * 64),
    ):
        with pytest.raises(CountersealError) as caught:
            attempt()
        yield caught.value
    document = json.loads(keyring.pack(ring))
    for field, value in document["generations"][0].items():
        for broken in (None, 1, value + "=", value[:-5], value + value, "!" + value, {value: 1}):
            changed = copy.deepcopy(document)
            changed["generations"][0][field] = broken
            packed = json.dumps(changed, sort_keys=True, separators=(",", ":")).encode()
            with pytest.raises(FormatError) as caught:
                keyring.unpack(packed)
            yield caught.value
    for place in range(0, 4000, 97):
        packed = bytearray(keyring.pack(ring))
        if place < len(packed):
            packed[place] ^= 0x80
            with pytest.raises(FormatError) as caught:
                keyring.unpack(bytes(packed))
            yield caught.value


def test_errors_and_their_tracebacks(ring: KeyRing, cheap: Cost) -> None:
    count = 0
    for error in failures(ring, cheap):
        assert_clean(repr(error) + str(error) + str(error.__dict__), ring)
        assert_clean("".join(traceback.format_exception(error)), ring)
        count += 1
    assert count > 60


def test_seeds_that_are_none_are_not_repeated_in_the_error(ring: KeyRing) -> None:
    generation = next(iter(ring._generations.values()))
    signing, agreement = generation.signing, generation.agreement
    for attempt in (
        lambda: SigningKey(signing.public.suite, signing.seeds()[0] + b"x", signing.seeds()[1]),
        lambda: SigningKey(signing.public.suite, signing.seeds()[0], signing.seeds()[1] * 2),
        lambda: AgreementKey(agreement.public.suite, *agreement.seeds()[::-1]),
    ):
        with pytest.raises(ValueError) as caught:
            attempt()
        assert_clean("".join(traceback.format_exception(caught.value)), ring)


def test_keys_cannot_be_pickled(ring: KeyRing) -> None:
    generation = next(iter(ring._generations.values()))
    for value in (ring, generation, generation.signing, generation.agreement, generation.statement):
        with pytest.raises(TypeError):
            pickle.dumps(value)


def test_a_keystore_file_has_no_secret_in_the_clear(
    ring: KeyRing, cheap: Cost, tmp_path: Path
) -> None:
    keystore_file.FileKeystore(tmp_path / "k", cost=cheap).save(ring, PASSPHRASE)
    recovery.save(next(iter(ring._generations.values())).signing, tmp_path / "r", PASSPHRASE)
    for path in tmp_path.iterdir():
        assert_clean(path.read_bytes().decode("latin-1"), ring)
