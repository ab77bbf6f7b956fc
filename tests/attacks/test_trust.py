"""Attacks on who is speaking: each is built for real, with real keys, and named by its sentence.

The second half switches defences off, one at a time: there the same attack must succeed.
Otherwise the test would only show that something else is broken.
"""

from __future__ import annotations

import contextlib
import json
import resource
import time
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import cache
from typing import TYPE_CHECKING, Any

import msgspec
import pytest
from cryptography.hazmat.primitives.asymmetric.utils import encode_dss_signature
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from counterseal.crypto import passphrase as passphrases
from counterseal.crypto import signing
from counterseal.crypto.derive import bind
from counterseal.crypto.passphrase import Cost
from counterseal.crypto.signing import P256_ORDER, SigningKey, VerifyKey
from counterseal.errors import (
    BadCiphertext,
    BadSignature,
    ExpiredKey,
    FormatError,
    RevokedKey,
    RolledBack,
    TrustError,
)
from counterseal.trust import history as history_module
from counterseal.trust import keyid, prekeys, recovery, signed, succession
from counterseal.trust.card import (
    CARD_TYPE,
    REVOCATION_TYPE,
    AgreementPublic,
    Card,
    CardDocument,
    Recovery,
    Revocation,
    SigningPublic,
    key_id,
)
from counterseal.trust.history import History
from counterseal.trust.keystores import file as keystore_file
from counterseal.trust.keystores.file import FileKeystore
from counterseal.trust.keystores.keyring import Generation, KeyRing
from counterseal.trust.partner import Partner
from counterseal.wire import canonical, limits

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from counterseal.wire.dsse import Envelope, EnvelopeSignature

NOW = datetime(2026, 3, 1, tzinfo=UTC)
DAY = timedelta(days=1)
CHEAP = Cost(memory_kib=19 * 1024, passes=2, lanes=1)
change = msgspec.structs.replace


# --- the honest world ---------------------------------------------------------------------


@cache
def keys(name: str) -> Generation:
    """The keys of "lab1", "lab2", ..., "thief"; those of "token" are P-256."""
    return Generation.create(hardware=name == "token")


@cache
def recovery_key(number: int) -> SigningKey:
    del number
    return SigningKey.generate()


@cache
def lab() -> History:
    """One card with two of three recovery keys."""
    public = recovery.public_part([recovery_key(n) for n in range(3)], threshold=2)
    return succession.first("lab", keys("lab1"), recovery=public, at=NOW)[1]


@cache
def rotated() -> History:
    """Two cards; the second replaces the first on day 10, grace is 14 days."""
    return succession.next_card(lab(), keys("lab2"), by=[keys("lab1").signing], at=NOW + 10 * DAY)[
        1
    ]


@cache
def revoked() -> History:
    """The first card was stolen and revoked while it was the newest."""
    return succession.revoke(
        lab(), lab().identity, by=[keys("lab1").signing], reason="compromised", at=NOW + DAY
    )


@cache
def clinic() -> History:
    return succession.first("clinic", keys("clinic"), recovery=recovery.NO_RECOVERY, at=NOW)[1]


# --- what an attacker does with it ---------------------------------------------------------


def document(*cards: Envelope, revocations: tuple[Envelope, ...] = ()) -> CardDocument:
    return CardDocument(kind="cards", format=1, cards=cards, revocations=revocations)


def sign(card: canonical.Message, *by: str | SigningKey, kind: str = CARD_TYPE) -> Envelope:
    signers = [keys(name).signing if isinstance(name, str) else name for name in by]
    return signed.sign(card, kind, by=signers)


def successor(name: str, /, *, of: History | None = None, **fields: Any) -> Card:
    """A next card of the lab that carries the keys `name`."""
    before = (of or lab()).newest
    made = succession._card(
        "lab",
        keys(name),
        before.card.recovery,
        fields.pop("created", NOW + 2 * DAY),
        fields.pop("expires", NOW + 300 * DAY),
        before=of or lab(),
    )
    return change(made, **fields)


def first(name: str = "lab1", /, **fields: Any) -> Card:
    card = change(lab().newest.card, signing=SigningPublic.of(keys(name).signing.public))
    return change(card, **fields)


def revocation(by: str | SigningKey, /, **fields: Any) -> Envelope:
    document = Revocation(
        kind="revocation",
        format=1,
        identity=lab().identity,
        key_id=lab().identity,
        newest=lab().identity,
        reason="compromised",
        at=NOW + DAY,
    )
    return sign(change(document, **fields), by, kind=REVOCATION_TYPE)


def extended(envelope: Envelope, *, of: History | None = None) -> CardDocument:
    base = (of or lab()).document
    return document(*base.cards, envelope, revocations=base.revocations)


def halves(envelope: Envelope, **sigs: EnvelopeSignature) -> Envelope:
    """The envelope with its first pair of signatures changed."""
    classical, pq, *rest = envelope.signatures
    pair = (sigs.get("classical", classical), sigs.get("pq", pq))
    return change(envelope, signatures=(*pair, *rest))


def flipped(signature: EnvelopeSignature) -> EnvelopeSignature:
    return change(signature, sig=bytes([signature.sig[0] ^ 1]) + signature.sig[1:])


def broken_half(which: str) -> CardDocument:
    envelope = lab().document.cards[0]
    half = envelope.signatures[0 if which == "classical" else 1]
    return document(halves(envelope, **{which: flipped(half)}))


def high_s() -> CardDocument:
    """The other ECDSA signature of the same message: (r, order - s)."""
    card = succession.first("lab", keys("token"), recovery=recovery.NO_RECOVERY, at=NOW)[1]
    envelope = card.document.cards[0]
    raw = envelope.signatures[0].sig
    other = P256_ORDER - int.from_bytes(raw[32:], "big")
    changed = change(envelope.signatures[0], sig=raw[:32] + other.to_bytes(32, "big"))
    return document(halves(envelope, classical=changed))


def another_type() -> CardDocument:
    """The lab signed these very bytes, but as another kind of document."""
    envelope = sign(lab().newest.card, "lab1", kind=REVOCATION_TYPE)
    return document(change(envelope, payloadType=CARD_TYPE))


def swapped_key() -> CardDocument:
    envelope = lab().document.cards[0]
    card = change(lab().newest.card, agreement=AgreementPublic.of(keys("thief").agreement.public))
    return document(change(envelope, payload=canonical.encode(card)))


def swapped_recovery() -> CardDocument:
    thiefs = recovery.public_part([keys("thief").signing], threshold=1)
    envelope = lab().document.cards[0]
    card = change(lab().newest.card, recovery=thiefs)
    return document(change(envelope, payload=canonical.encode(card)))


def signatures(make: Callable[[tuple[EnvelopeSignature, ...]], tuple[EnvelopeSignature, ...]]):
    def attack() -> CardDocument:
        envelope = lab().document.cards[0]
        return document(change(envelope, signatures=make(envelope.signatures)))

    return attack


def with_stranger() -> CardDocument:
    return document(sign(lab().newest.card, "lab1", "thief"))


def recovered(*signers: SigningKey, card: Card | None = None) -> CardDocument:
    return extended(sign(card or successor("lab2"), "lab2", *signers), of=revoked())


def doubled_pair() -> CardDocument:
    envelope = sign(successor("lab2"), "lab2", recovery_key(0))
    own, once = envelope.signatures[:2], envelope.signatures[2:]
    return extended(change(envelope, signatures=(*own, *once, *once)), of=revoked())


def listed_twice() -> CardDocument:
    """A card whose only recovery key stands in it twice, "two of two"; one signature."""
    public = SigningPublic.of(recovery_key(0).public)
    start = first(recovery=Recovery(threshold=2, keys=(public, public)))
    envelope = sign(start, "lab1")
    identity = key_id(envelope.payload)
    following = change(
        successor("thief"), identity=identity, previous=identity, recovery=start.recovery
    )
    return document(envelope, sign(following, "thief", recovery_key(0)))


def own_recovery() -> CardDocument:
    """A card whose signing key is its recovery key too: the thief of one has the other."""
    public = SigningPublic.of(keys("lab1").signing.public)
    return document(sign(first(recovery=Recovery(threshold=1, keys=(public,))), "lab1"))


def shared_half() -> CardDocument:
    """Two recovery keys with one post-quantum half: one quantum-safe key, counted twice."""
    one, two = (SigningPublic.of(recovery_key(n).public) for n in (0, 1))
    public = Recovery(threshold=2, keys=(one, change(two, pq=one.pq)))
    return document(sign(first(recovery=public), "lab1"))


def threshold(number: int, count: int) -> CardDocument:
    public = tuple(SigningPublic.of(recovery_key(n).public) for n in range(count))
    return document(sign(first(recovery=Recovery(threshold=number, keys=public)), "lab1"))


def nobody_needed() -> CardDocument:
    """After a card without recovery keys, a stranger's: "zero of zero have signed"."""
    start = sign(first(recovery=recovery.NO_RECOVERY), "lab1")
    identity = key_id(start.payload)
    following = change(successor("thief"), identity=identity, previous=identity)
    return document(start, sign(following, "thief"))


def serial_gap() -> CardDocument:
    return extended(sign(successor("lab2", serial=3), "lab2", "lab1"))


def fork() -> CardDocument:
    return extended(sign(successor("thief"), "thief", "lab1"))


def backdated() -> CardDocument:
    """The thief of the revoked key dates the next card before the revocation."""
    return extended(sign(successor("thief", created=NOW), "thief", "lab1"), of=revoked())


def late_revocation() -> CardDocument:
    """... and puts a revocation of their own in the place of the owner's: it names the
    thief's card as the newest of its time, so the stolen key would have had its say."""
    thiefs = sign(successor("thief", created=NOW), "thief", "lab1")
    replaced = revocation("lab1", newest=key_id(thiefs.payload))
    return document(*lab().document.cards, thiefs, revocations=(replaced,))


def hidden_revocation() -> CardDocument:
    return lab().document


def raw_card(edit: Callable[[bytes], bytes]) -> CardDocument:
    """The lab itself signs a payload that is not canonical."""
    payload = edit(lab().document.cards[0].payload)
    return document(signed.sign_bytes(payload, CARD_TYPE, by=[keys("lab1").signing]))


def edited(old: bytes, new: bytes) -> Callable[[], CardDocument]:
    def attack() -> CardDocument:
        wire = lab().document.encode().strip()
        assert old in wire
        return CardDocument.parse(wire.replace(old, new, 1))

    return attack


def unsigned_at(year: int) -> CardDocument:
    """Nobody signed it: but the checks before the signatures must not fall over it."""
    payload = lab().document.cards[0].payload.replace(b'"created":"2026', b'"created":"%d' % year)
    payload = payload.replace(b'"expires":"2027', b'"expires":"%d' % year)
    return document(change(lab().document.cards[0], payload=payload))


def verify(attack: Callable[[], CardDocument], pinned: Callable[[], History] | None = None):
    return lambda: History.verify(attack(), pinned=pinned() if pinned else None)


CARDS: dict[str, tuple[Callable[[], object], type[Exception]]] = {
    "a card with a swapped agreement key is refused": (verify(swapped_key), BadSignature),
    "a card with swapped recovery keys is refused": (verify(swapped_recovery), BadSignature),
    "a card signed by another key is refused": (
        verify(lambda: document(sign(lab().newest.card, "thief"))),
        BadSignature,
    ),
    "a card signed by its classical half only is refused": (
        verify(signatures(lambda pair: pair[:1])),
        BadSignature,
    ),
    "a card signed by its post-quantum half only is refused": (
        verify(signatures(lambda pair: pair[1:])),
        BadSignature,
    ),
    "a card whose classical half is bad is refused": (
        verify(lambda: broken_half("classical")),
        BadSignature,
    ),
    "a card whose post-quantum half is bad is refused": (
        verify(lambda: broken_half("pq")),
        BadSignature,
    ),
    "a card whose halves stand the other way round is refused": (
        verify(signatures(lambda pair: pair[::-1])),
        BadSignature,
    ),
    "a card whose one half stands twice is refused": (
        verify(signatures(lambda pair: (pair[0], pair[0]))),
        BadSignature,
    ),
    "the second P-256 signature of the same card (high s) is refused": (
        verify(high_s),
        BadSignature,
    ),
    "a signature made for another kind of document is refused": (
        verify(another_type),
        BadSignature,
    ),
    "an envelope of another kind is refused": (
        verify(lambda: document(sign(lab().newest.card, "lab1", kind=REVOCATION_TYPE))),
        BadSignature,
    ),
    "a signature that stands twice is refused": (
        verify(signatures(lambda pair: pair * 2)),
        BadSignature,
    ),
    "a stranger's signature beside the right one is refused": (
        verify(with_stranger),
        BadSignature,
    ),
    "an extra half is refused": (verify(signatures(lambda pair: (*pair, pair[0]))), BadSignature),
    "a key id that is not the signer's is refused": (
        verify(signatures(lambda pair: (change(pair[0], keyid="0" * 64), pair[1]))),
        BadSignature,
    ),
    "a card without recovery keys and a threshold is refused": (
        verify(lambda: threshold(1, 0)),
        FormatError,
    ),
    "a threshold of zero with recovery keys is refused": (
        verify(lambda: threshold(0, 1)),
        FormatError,
    ),
    "a threshold above the number of keys is refused": (
        verify(lambda: threshold(3, 2)),
        FormatError,
    ),
    "a card that lives for a century is refused": (
        verify(lambda: document(sign(first(expires=NOW + 36_500 * DAY), "lab1"))),
        FormatError,
    ),
    "a card that ends before it starts is refused": (
        verify(lambda: document(sign(first(expires=NOW - DAY), "lab1"))),
        FormatError,
    ),
    "a card at the end of the calendar is refused": (
        verify(lambda: unsigned_at(9999)),
        FormatError,
    ),
    "a card with an agreement key of another length is refused": (
        verify(
            lambda: document(
                sign(first(agreement=change(lab().newest.card.agreement, pq=b"")), "lab1")
            )
        ),
        FormatError,
    ),
    "a card with a statement key that is none is refused": (
        verify(lambda: document(sign(first(statement=b""), "lab1"))),
        FormatError,
    ),
    "a signed card with white space is refused": (
        verify(lambda: raw_card(lambda payload: payload.replace(b",", b", ", 1))),
        FormatError,
    ),
    "a signed card with an unknown field is refused": (
        verify(lambda: raw_card(lambda payload: b'{"admin":true,' + payload[1:])),
        FormatError,
    ),
    "a signed card with a key twice is refused": (
        verify(lambda: raw_card(lambda payload: payload[:-1] + b',"serial":1}')),
        FormatError,
    ),
}

SUCCESSION: dict[str, tuple[Callable[[], object], type[Exception]]] = {
    "a gap in the serial numbers is refused": (verify(serial_gap), FormatError),
    "a history without its first card is refused": (
        verify(lambda: document(*rotated().document.cards[1:])),
        FormatError,
    ),
    "a history in another order is refused": (
        verify(lambda: document(*rotated().document.cards[::-1])),
        FormatError,
    ),
    "a card that stands twice is refused": (
        verify(lambda: document(*lab().document.cards * 2)),
        FormatError,
    ),
    "a successor under another name is refused": (
        verify(lambda: extended(sign(successor("lab2", name="clinic"), "lab2", "lab1"))),
        FormatError,
    ),
    "a successor of another identity is refused": (
        verify(
            lambda: extended(sign(successor("lab2", identity=clinic().identity), "lab2", "lab1"))
        ),
        FormatError,
    ),
    "a successor that starts before its predecessor is refused": (
        verify(lambda: extended(sign(successor("lab2", created=NOW - DAY), "lab2", "lab1"))),
        FormatError,
    ),
    "a successor that only its own key signed is refused": (
        verify(lambda: extended(sign(successor("thief"), "thief"))),
        BadSignature,
    ),
    "a successor that only the old key signed is refused": (
        verify(lambda: extended(sign(successor("lab2"), "lab1"))),
        BadSignature,
    ),
    "a successor with the same keys is refused": (
        verify(lambda: extended(sign(successor("lab1"), "lab1"))),
        BadSignature,
    ),
    "a successor signed by a key two cards back is refused": (
        verify(
            lambda: extended(
                sign(successor("thief", of=rotated(), created=NOW + 20 * DAY), "thief", "lab1"),
                of=rotated(),
            )
        ),
        BadSignature,
    ),
    "a fork of what was pinned is refused": (verify(fork, rotated), RolledBack),
    "a rollback to the card before is refused": (
        verify(lambda: lab().document, rotated),
        RolledBack,
    ),
    "another identity in the place of the pinned one is refused": (
        verify(lambda: clinic().document, lab),
        RolledBack,
    ),
    "a hidden revocation is noticed": (verify(hidden_revocation, revoked), RolledBack),
    "a revocation by a stranger is refused": (
        verify(lambda: document(*lab().document.cards, revocations=(revocation("thief"),))),
        BadSignature,
    ),
    "a revocation of the new card by the old key is refused": (
        verify(
            lambda: document(
                *rotated().document.cards,
                revocations=(
                    revocation("lab1", key_id=rotated().newest.key_id, newest=rotated().identity),
                ),
            )
        ),
        BadSignature,
    ),
    "a revocation of another identity's card is refused": (
        verify(
            lambda: document(
                *lab().document.cards, revocations=(revocation("lab1", identity="0" * 64),)
            )
        ),
        FormatError,
    ),
    "a revocation of a card that is not here is refused": (
        verify(
            lambda: document(
                *lab().document.cards, revocations=(revocation("lab1", key_id="0" * 64),)
            )
        ),
        FormatError,
    ),
    "a revocation by one recovery key of two needed is refused": (
        verify(lambda: document(*lab().document.cards, revocations=(revocation(recovery_key(0)),))),
        BadSignature,
    ),
    "a card signature in the place of a revocation is refused": (
        verify(lambda: document(*lab().document.cards, revocations=lab().document.cards)),
        FormatError,
    ),
    "the revoked key has no say over its successor": (
        verify(
            lambda: extended(
                sign(successor("thief", created=NOW + 5 * DAY), "thief", "lab1"), of=revoked()
            )
        ),
        BadSignature,
    ),
    "a successor dated before the revocation is refused": (verify(backdated), BadSignature),
    "a revocation that the thief wrote in the place of the owner's is noticed": (
        verify(late_revocation, revoked),
        RolledBack,
    ),
    "recovery below the threshold is refused": (
        verify(lambda: recovered(recovery_key(0))),
        BadSignature,
    ),
    "recovery by a key that is none of them is refused": (
        verify(lambda: recovered(recovery_key(0), keys("thief").signing)),
        BadSignature,
    ),
    "the revoked key does not count as a recovery key": (
        verify(lambda: recovered(recovery_key(0), keys("lab1").signing)),
        BadSignature,
    ),
    "a recovery signature that stands twice does not count twice": (
        verify(doubled_pair),
        BadSignature,
    ),
    "a recovery key that is listed twice does not count twice": (
        verify(listed_twice),
        FormatError,
    ),
    "a recovery key that shares a half with another is refused": (
        verify(shared_half),
        FormatError,
    ),
    "a signing key that is its own recovery key is refused": (verify(own_recovery), FormatError),
    "no recovery keys does not mean that nobody has to sign": (
        verify(nobody_needed),
        BadSignature,
    ),
    "recovery keys that the new card names itself do not count": (
        verify(
            lambda: recovered(
                keys("thief").signing,
                card=successor(
                    "lab2", recovery=recovery.public_part([keys("thief").signing], threshold=1)
                ),
            )
        ),
        BadSignature,
    ),
}


def current(history: Callable[[], History], days: float) -> Callable[[], object]:
    return lambda: history().current(at=NOW + days * DAY)


def signature_of(history: Callable[[], History], card: int, made: float, at: float):
    def attack() -> object:
        chain = history()
        return chain.for_signature(
            chain.cards[card].key_id, made=NOW + made * DAY, at=NOW + at * DAY
        )

    return attack


TIME: dict[str, tuple[Callable[[], object], type[Exception]]] = {
    "an expired card is refused: the line was frozen": (current(lab, 366), ExpiredKey),
    "a card from the future is refused": (current(lab, -1), TrustError),
    "a revoked card is refused": (current(revoked, 2), RevokedKey),
    "a signature by a revoked key is refused": (signature_of(revoked, 0, 0, 2), RevokedKey),
    "a signature by the replaced key, made after its time, is refused": (
        signature_of(rotated, 0, 11, 12),
        ExpiredKey,
    ),
    "a signature by the replaced key, dated back, is refused after the grace": (
        signature_of(rotated, 0, 9, 25),
        ExpiredKey,
    ),
    "a signature by a key of an expired history is refused": (
        signature_of(rotated, 1, 11, 500),
        ExpiredKey,
    ),
    "a signature by nobody's key is refused": (
        lambda: lab().for_signature(clinic().identity, made=NOW, at=NOW),
        BadSignature,
    ),
}


# --- prekeys -------------------------------------------------------------------------------


def bundle(**fields: Any) -> prekeys.PrekeyBundle:
    made = prekeys.generate(lab(), clinic(), 1, at=NOW)[0]
    return change(made, **fields)


def offer(
    signer: str = "lab1",
    *,
    of: Callable[[], History] = lab,
    at: float = 0,
    kind: str = prekeys.PREKEYS_TYPE,
    **fields: Any,
) -> Callable[[], object]:
    def attack() -> object:
        envelope = sign(bundle(**fields), signer, kind=kind)
        return prekeys.verify(envelope, of=of(), to=clinic().identity, at=NOW + at * DAY)

    return attack


PREKEYS: dict[str, tuple[Callable[[], object], type[Exception]]] = {
    "prekeys made for another partner are refused": (offer(partner="0" * 64), TrustError),
    "prekeys of another identity are refused": (offer(identity="0" * 64), TrustError),
    "prekeys of a card that is not theirs are refused": (offer(card="0" * 64), BadSignature),
    "prekeys signed by a stranger are refused": (offer("thief"), BadSignature),
    "prekeys signed as another kind of document are refused": (
        offer(kind=CARD_TYPE),
        BadSignature,
    ),
    "prekeys after their time are refused": (
        offer(expires=NOW + DAY, at=2),
        ExpiredKey,
    ),
    "prekeys from the future are refused": (offer(created=NOW + DAY), ExpiredKey),
    "prekeys signed by a replaced key are refused after the grace": (
        offer(of=rotated, at=25),
        ExpiredKey,
    ),
    "prekeys signed by a replaced key, made after its time, are refused": (
        offer(of=rotated, created=NOW + 11 * DAY, at=12),
        ExpiredKey,
    ),
    "prekeys signed by a revoked key are refused": (offer(of=revoked), RevokedKey),
}


# --- what is read aloud --------------------------------------------------------------------


def other_digit(text: str, place: int, alphabet: str) -> str:
    at = (alphabet.index(text[place]) + 1) % len(alphabet)
    return text[:place] + alphabet[at] + text[place + 1 :]


def other_word() -> str:
    listed = keyid.word_list()
    words = keyid.words(lab().identity).split("-")
    words[3] = listed[(listed.index(words[3]) + 1) % len(listed)]
    return "-".join(words)


def exchanged_words() -> str:
    one, two, *rest = keyid.words(lab().identity).split("-")
    return "-".join([two, one, *rest])


def said(make: Callable[[], str]) -> Callable[[], object]:
    return lambda: Partner.pin(lab().document, key_id=make(), at=NOW)


KEY_IDS: dict[str, tuple[Callable[[], object], type[Exception]]] = {
    f"a key id {name} is refused": (said(make), TrustError)
    for name, make in {
        "with one other word": other_word,
        "with two words exchanged": exchanged_words,
        "without its last word": lambda: keyid.words(lab().identity).rpartition("-")[0],
        "with one other digit": lambda: other_digit(keyid.digits(lab().identity), 0, "0123456789"),
        "without its last digit": lambda: keyid.digits(lab().identity)[:-1],
        "with one other hex character": lambda: other_digit(lab().identity, 63, "0123456789abcdef"),
        "of 63 hex characters": lambda: lab().identity[:-1],
        "with something after it": lambda: lab().identity + "0",
        "that is empty": str,
        "that is only spaces": lambda: " - ",
        "of another card": lambda: clinic().identity,
    }.items()
}


# --- bytes that are no card ----------------------------------------------------------------


def parsed(data: Callable[[], bytes]) -> Callable[[], object]:
    return lambda: CardDocument.parse(data())


def many_cards(count: int) -> bytes:
    one = b'{"payload":"","payloadType":"","signatures":[{"keyid":"","sig":""}]}'
    cards = b",".join([one] * count)
    return b'{"cards":[' + cards + b'],"format":1,"kind":"cards","revocations":[]}'


def loaded(data: Callable[[], bytes]) -> Callable[[Path], object]:
    def attack(folder: Path) -> object:
        (folder / "card").write_bytes(data())
        return CardDocument.load(folder / "card")

    return attack


BYTES: dict[str, tuple[Callable[[], object], type[Exception]]] = {
    name: (attack, FormatError)
    for name, attack in {
        "a huge card is refused": parsed(lambda: b" {" + b" " * limits.CARD_DOCUMENT_BYTES),
        "a million cards are refused": parsed(lambda: many_cards(1_000_000)),
        "257 cards are refused": parsed(lambda: many_cards(limits.CARDS + 1)),
        "no card at all is refused": parsed(lambda: many_cards(0)),
        "deeply nested lists are refused": parsed(lambda: b"[" * 4_000_000),
        "deeply nested cards are refused": parsed(lambda: b'{"cards":[' * 400_000),
        "deeply nested unknown fields are refused": parsed(lambda: b'{"a":' * 800_000),
        "a JSON key that stands twice is refused": edited(b'"format":1', b'"format":1,"format":1'),
        "white space is refused": edited(b'"format":1', b'"format": 1'),
        "an unknown field is refused": edited(b'"format":1', b'"extra":0,"format":1'),
        "an unknown version is refused": edited(b'"format":1', b'"format":2'),
        "NaN is refused": edited(b'"format":1', b'"format":NaN'),
        "a version that is a float is refused": edited(b'"format":1', b'"format":1.0'),
        "the other base64 alphabet is refused": parsed(
            lambda: lab().document.encode().replace(b"+", b"-").replace(b"/", b"_")
        ),
        "base64 with a line break is refused": edited(b'"payload":"', b'"payload":"\\n'),
        "another key order is refused": parsed(
            lambda: json.dumps(
                dict(reversed(json.loads(lab().document.encode()).items())),
                separators=(",", ":"),
            ).encode()
        ),
        "bytes that are not UTF-8 are refused": edited(b'"format"', b'"form\xff"'),
    }.items()
}

REFUSED = CARDS | SUCCESSION | TIME | PREKEYS | KEY_IDS | BYTES


@pytest.mark.parametrize("sentence", REFUSED)
def test_refused(sentence: str) -> None:
    attack, error = REFUSED[sentence]
    with pytest.raises(error) as caught:
        attack()
    if error is TrustError:  # not by accident for a reason of its own
        assert type(caught.value) is TrustError


@pytest.mark.parametrize(
    "sentence", [name for name in BYTES if "million" in name or "deep" in name]
)
def test_refused_before_it_costs_anything(sentence: str) -> None:
    attack, _ = BYTES[sentence]
    with contextlib.suppress(FormatError):
        attack()
    before, start = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, time.process_time()
    with pytest.raises(FormatError):
        attack()
    assert time.process_time() - start < 1
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 200 * 1024  # KiB


def test_a_huge_file_is_refused_before_it_is_read(tmp_path: Path) -> None:
    path = tmp_path / "card"
    with path.open("wb") as file:
        file.truncate(1 << 40)  # sparse
    with pytest.raises(FormatError, match="longer than"):
        CardDocument.load(path)


ACCEPTED: dict[str, Callable[[], object]] = {
    "an honest rotation": verify(lambda: rotated().document, lab),
    "two recovery keys of three": verify(lambda: recovered(recovery_key(0), recovery_key(2))),
    "all three recovery keys": verify(lambda: recovered(*map(recovery_key, range(3)))),
    "recovery against what was pinned": verify(
        lambda: recovered(recovery_key(1), recovery_key(2)), revoked
    ),
    "recovery without a revocation": verify(
        lambda: extended(sign(successor("lab2"), "lab2", recovery_key(0), recovery_key(1))), lab
    ),
    "a revocation by two recovery keys": lambda: succession.revoke(
        lab(), lab().identity, by=[recovery_key(0), recovery_key(1)], reason="lost", at=NOW
    ),
    "a revocation by the key itself": verify(lambda: revoked().document, lab),
    "a second revocation beside the first": verify(
        lambda: document(
            *revoked().document.cards,
            revocations=(*revoked().document.revocations, revocation("lab1", reason="lost")),
        ),
        revoked,
    ),
    "an old package within the grace": signature_of(rotated, 0, 9, 24),
    "prekeys in time": offer(),
    "prekeys signed by the replaced key within the grace": offer(of=rotated, at=20),
    "the eight words": said(lambda: keyid.words(lab().identity)),
}


@pytest.mark.parametrize("sentence", ACCEPTED)
def test_accepted(sentence: str) -> None:
    ACCEPTED[sentence]()


# --- keystores -----------------------------------------------------------------------------


@cache
def keystore() -> bytes:
    ring = KeyRing.create(lab().identity, keys("lab1"))
    from counterseal.trust.keystores import keyring

    return keystore_file.encrypt(keyring.pack(ring), b"pass", kind="keystore", cost=CHEAP)


def load_keystore(folder: Path, data: bytes, *, mode: int = 0o600, passphrase: bytes = b"pass"):
    path = folder / "keystore.json"
    path.write_bytes(data)
    path.chmod(mode)
    return FileKeystore(path).load(passphrase)


def with_fields(**fields: Any) -> bytes:
    document = json.loads(keystore()) | fields
    return json.dumps(document, sort_keys=True, separators=(",", ":")).encode()


def test_the_keystore_opens(tmp_path: Path) -> None:
    assert load_keystore(tmp_path, keystore()).cards == (lab().identity,)


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o660, 0o644, 0o610])
def test_a_keystore_that_others_can_read_is_refused(tmp_path: Path, mode: int) -> None:
    with pytest.raises(TrustError, match="read by others"):
        load_keystore(tmp_path, keystore(), mode=mode)


@pytest.mark.parametrize("passphrase", [b"Pass", b"pass ", b"passpass", b"\0"])
def test_a_wrong_passphrase_is_refused(tmp_path: Path, passphrase: bytes) -> None:
    with pytest.raises(TrustError, match="wrong passphrase"):
        load_keystore(tmp_path, keystore(), passphrase=passphrase)


@pytest.mark.parametrize(
    "fields",
    [
        {"memory_kib": 8},
        {"memory_kib": 19 * 1024 - 1},
        {"memory_kib": 0},
        {"passes": 1},
        {"passes": 0},
        {"lanes": 0},
        {"memory_kib": 1024 * 1024 + 1},
        {"memory_kib": 2**32},
        {"memory_kib": 2**53},
        {"memory_kib": -1},
        {"passes": 17},
        {"passes": 2**16},
        {"lanes": 17},
        {"memory_kib": 1e9},
        {"memory_kib": "65536"},
    ],
    ids=str,
)
def test_a_cost_out_of_bounds_is_refused_before_any_memory_is_taken(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fields: dict[str, Any]
) -> None:
    document = with_fields(**fields)
    monkeypatch.setattr(passphrases, "Argon2id", None)  # calling it would be a TypeError
    with pytest.raises(FormatError):
        load_keystore(tmp_path, document)


@pytest.mark.parametrize("fields", [{"passes": 3}, {"lanes": 2}, {"memory_kib": 20 * 1024}])
def test_another_cost_within_the_bounds_opens_nothing(
    tmp_path: Path, fields: dict[str, Any]
) -> None:
    with pytest.raises(TrustError, match="wrong passphrase"):
        load_keystore(tmp_path, with_fields(**fields))


@pytest.mark.parametrize("kind", ["recovery-key", "backup"])
def test_one_kind_of_secret_cannot_stand_in_for_another(tmp_path: Path, kind: str) -> None:
    with pytest.raises(FormatError, match=f"this is a {kind}"):
        load_keystore(tmp_path, with_fields(kind=kind))
    other = keystore_file.encrypt(b"{}", b"pass", kind=kind, cost=CHEAP)  # type: ignore[arg-type]
    relabelled = other.replace(f'"{kind}"'.encode(), b'"keystore"')
    with pytest.raises(TrustError, match="wrong passphrase"):
        load_keystore(tmp_path, relabelled)


# --- with the defence switched off the attack succeeds --------------------------------------


@dataclass(frozen=True)
class Hole:
    """A place in the code, and what stands there once the defence is gone."""

    place: object
    name: str
    without: object


def any_s(raw: bytes) -> bytes:
    return encode_dss_signature(int.from_bytes(raw[:32], "big"), int.from_bytes(raw[32:], "big"))


def nothing_barred(*arguments: Any, original: Any = history_module._revocations) -> Any:
    return original(*arguments)[0], set()


def by_key_id_only(history: History, pinned: History) -> None:
    gone = {d.key_id for d in pinned.cards if d.revoked} - {
        d.key_id for d in history.cards if d.revoked
    }
    if gone:
        raise RolledBack("hidden")


HOLES: dict[str, Hole] = {
    "a card whose classical half is bad is refused": Hole(
        VerifyKey, "_classical_is_good", lambda *_: True
    ),
    "a card whose post-quantum half is bad is refused": Hole(
        VerifyKey, "_pq_is_good", lambda *_: True
    ),
    "the second P-256 signature of the same card (high s) is refused": Hole(signing, "_der", any_s),
    "a signature made for another kind of document is refused": Hole(
        signed, "pae", lambda _, payload: payload
    ),
    "a rollback to the card before is refused": Hole(
        history_module, "_check_advance", lambda *_: None
    ),
    "a fork of what was pinned is refused": Hole(history_module, "_check_advance", lambda *_: None),
    "a hidden revocation is noticed": Hole(history_module, "_check_advance", lambda *_: None),
    "a revocation that the thief wrote in the place of the owner's is noticed": Hole(
        history_module, "_check_advance", by_key_id_only
    ),
    "a successor dated before the revocation is refused": Hole(
        history_module, "_revocations", nothing_barred
    ),
    "the revoked key has no say over its successor": Hole(
        history_module, "_revocations", nothing_barred
    ),
    "a gap in the serial numbers is refused": Hole(history_module, "_check_place", lambda *_: None),
    "recovery below the threshold is refused": Hole(
        history_module, "_enough", lambda found, recovery, _: any(k in found for k in recovery)
    ),
    "no recovery keys does not mean that nobody has to sign": Hole(
        history_module,
        "_enough",
        lambda found, recovery, threshold: sum(k in found for k in recovery) >= threshold,
    ),
    "a recovery key that is listed twice does not count twice": Hole(
        history_module, "_check_keys", lambda _: None
    ),
    "a signing key that is its own recovery key is refused": Hole(
        history_module, "_check_keys", lambda _: None
    ),
    "a card with a statement key that is none is refused": Hole(
        history_module, "_check_keys", lambda _: None
    ),
}


@pytest.mark.parametrize("sentence", HOLES)
def test_without_its_defence_the_attack_succeeds(
    sentence: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    hole = HOLES[sentence]
    attack, error = REFUSED[sentence]
    with pytest.raises(error):
        attack()
    monkeypatch.setattr(hole.place, hole.name, hole.without)
    if "another kind" in sentence:  # these keys' envelopes were signed with the defence on
        lab.cache_clear()
    try:
        attack()
    finally:
        if "another kind" in sentence:
            lab.cache_clear()


def test_a_thief_with_the_replaced_revocation_would_be_the_lab(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """What the hole above is worth: packages of the thief as packages of the lab."""
    monkeypatch.setattr(history_module, "_check_advance", by_key_id_only)
    history = History.verify(late_revocation(), pinned=revoked())
    assert history.current(at=NOW + 3 * DAY).card.signing.key() == keys("thief").signing.public


# --- one ciphertext, two passphrases (partitioning oracle) ----------------------------------


def multiply(left: int, right: int) -> int:
    """In the field of GCM: bits in reflected order, modulus x^128 + x^7 + x^2 + x + 1."""
    product = 0
    for place in range(127, -1, -1):
        if left >> place & 1:
            product ^= right
        right = right >> 1 ^ (0xE1 << 120 if right & 1 else 0)
    return product


def inverse(value: int) -> int:
    """value^(2^128 - 2)."""
    result = 1 << 127  # one
    for _ in range(127):
        value = multiply(value, value)
        result = multiply(result, value)
    return result


def block(key: bytes, data: bytes) -> int:
    encryptor = Cipher(algorithms.AES(key), modes.ECB()).encryptor()  # noqa: S305 - one raw block
    return int.from_bytes(encryptor.update(data), "big")


def opens_under_both(first: bytes, second: bytes) -> bytes:
    """A ciphertext and tag (zero nonce, no associated data) that are good under both keys.

    tag = c1 h^3 + c2 h^2 + length h + mask is linear in the free block c2: set the tags of
    both keys equal and solve.
    """
    h = [block(key, bytes(16)) for key in (first, second)]
    mask = [block(key, bytes(15) + b"\1") for key in (first, second)]
    square = [multiply(x, x) for x in h]
    cube = [multiply(x, y) for x, y in zip(square, h, strict=True)]
    free, length = int.from_bytes(b"any block at all", "big"), 256
    known = [multiply(free, cube[n]) ^ multiply(length, h[n]) ^ mask[n] for n in range(2)]
    solved = multiply(known[0] ^ known[1], inverse(square[0] ^ square[1]))
    tag = known[0] ^ multiply(solved, square[0])
    return b"".join(number.to_bytes(16, "big") for number in (free, solved, tag))


def test_one_ciphertext_cannot_answer_for_two_passphrases(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    salt, context = bytes(16), bind("keystore")
    (key_a, commitment), (key_b, _) = (
        passphrases._keys(word, salt, context, CHEAP) for word in (b"correct", b"horse")
    )
    ciphertext = opens_under_both(key_a, key_b)
    for key in (key_a, key_b):  # the construction is right: plain AES-GCM is fooled
        AESGCM(key).decrypt(bytes(12), ciphertext, None)
    wrapped = salt + commitment + ciphertext

    passphrases.unwrap(wrapped, b"correct", context=context, cost=CHEAP)
    with pytest.raises(BadCiphertext):
        passphrases.unwrap(wrapped, b"horse", context=context, cost=CHEAP)

    monkeypatch.setattr(passphrases, "equal", lambda *_: True)
    passphrases.unwrap(wrapped, b"horse", context=context, cost=CHEAP)
