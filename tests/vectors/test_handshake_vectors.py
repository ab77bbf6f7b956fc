"""The key schedules of handshake, channel and groups, read from SPEC.md by another hand.

Below is a second implementation, from the text of the specification and with nothing of
counterseal in it but the numbers to compare with; and the known answers that the text prints.
"""

from __future__ import annotations

import hashlib
import hmac
from datetime import UTC, datetime, timedelta

from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from counterseal.exchange.channel import Channel, ChannelKeys
from counterseal.exchange.epoch import commitment
from counterseal.exchange.group_messages import Seen, read
from counterseal.exchange.handshake_messages import Hello, check_purpose
from counterseal.exchange.transcript import Schedule, Transcript

SECRET = bytes(range(32))
AT = datetime(2026, 6, 1, tzinfo=UTC)

# SPEC 9.3: eleven fields, in this order
FIELDS = [
    b"\x01",
    b"\x01",
    b"test".ljust(32, b"\0"),
    b"\x11" * 32,
    b"",
    b"\x22" * 1216,
    b"\x33" * 1120,
    b"\x44" * 32,
    b"\x55" * 32,
    b"\x66" * 32,
    b"\x77" * 32,
]
HELLO = [*FIELDS[:7], b"", b"", b"", b""]

KNOWN = {
    "transcript up to the shares": "700e54afe18a371634267838664123d311020c802958f1f29edaafb584ff0637",
    "whole transcript": "f8abef81426331a1e6b6a1a3e2c441c09086b1039f150acc9e78fdf66966ecea",
    "root": "8ec7da6738dfa12a314028d485865f60a2e71a0c75d21c4d9f6a6980de452f36",
    "message key of the responder": "9e3da1cd801659e5eafccd5361e608bd8cef4065a75779aa7363a0dd8aacdeff",
    "confirmation of the initiator": "d3d6864c4210a49eea04c896fc197ba403ef0178f22eb00cdd19bf3c644e78fc",
    "secret from initiator to responder": "92301300f09152fdd833e2249e73482b3239de87c05259180e75dd62202f3892",
    "first frame": "fc09b5a9ff33c2dffe5ed969e9977d32a4cf2c18cf86",
    "after a turn": "098e240bf29e3125ac20235c136b05c4fceae5228a13",
    "epoch commitment": "9c64926344da973c9a88561513311a33cda5c2e62f2ad4f14bd4b6e5c2b0c042",
    "group message": "01000000070000dddddddddddddddddddddddddddddddd0000000000000000bf6bb8fd41debc95ac157503310c87b12a1d918846",
}


def bind(label, *parts):
    encoded = b"counterseal/1 " + label.encode() + b"\0"
    return encoded + b"".join(len(part).to_bytes(4, "big") + part for part in parts)


def expand(key, info, length=32):
    made, block, number = b"", b"", 1
    while len(made) < length:
        block = hmac.digest(key, block + info + bytes([number]), hashlib.sha512)
        made, number = made + block, number + 1
    return made[:length]


def sha256(data):
    return hashlib.sha256(data).digest()


def frame(secret, number, kind, payload):
    material = expand(secret, bind("record"), 44)
    nonce = bytes(a ^ b for a, b in zip(material[32:], number.to_bytes(12, "big"), strict=True))
    return AESGCM(material[:32]).encrypt(nonce, bytes([kind]) + payload, None)


def by_the_text():
    part = sha256(bind("handshake transcript", *HELLO))
    whole = sha256(bind("handshake transcript", *FIELDS))
    root = expand(hmac.digest(part, SECRET, hashlib.sha512), bind("handshake root"))
    secret = expand(root, bind("channel", b"initiator", whole))
    group, digest, identity = b"\xaa" * 32, b"\xbb" * 32, b"\xcc" * 32
    head = b"\x01" + (7).to_bytes(4, "big") + (0).to_bytes(2, "big") + b"\xdd" * 16 + bytes(8)
    key = expand(SECRET, bind("group message", digest, head, identity))
    return {
        "transcript up to the shares": part,
        "whole transcript": whole,
        "root": root,
        "message key of the responder": expand(root, bind("handshake", b"responder")),
        "confirmation of the initiator": expand(root, bind("confirmation", b"initiator", whole)),
        "secret from initiator to responder": secret,
        "first frame": frame(secret, 0, 2, b"hello"),
        "after a turn": frame(expand(secret, bind("record ratchet")), 0, 2, b"hello"),
        "epoch commitment": expand(SECRET, bind("epoch commitment", group, (7).to_bytes(4, "big"))),
        "group message": head + AESGCM(key).encrypt(bytes(12), b"hello", None),
    }


def test_the_text_gives_the_known_answers():
    assert {name: value.hex() for name, value in by_the_text().items()} == KNOWN


def test_the_program_does_what_the_text_says():
    found = by_the_text()
    whole = Transcript(*FIELDS)
    part = Transcript(*HELLO)
    assert part.digest == found["transcript up to the shares"]
    assert whole.digest == found["whole transcript"]
    keys = Schedule(SECRET, part)
    assert keys._root == found["root"]
    assert keys.message_key("responder") == found["message key of the responder"]
    assert keys.confirmation("initiator", whole) == found["confirmation of the initiator"]
    secret = keys.channel_secret("initiator", whole)
    assert secret == found["secret from initiator to responder"]
    channel = Channel(ChannelKeys(secret, bytes(32), AT + timedelta(days=1)), at=AT)
    assert channel.seal(b"hello", at=AT) == [found["first frame"]]
    channel._turn(AT)
    assert channel.seal(b"hello", at=AT) == [found["after a turn"]]
    assert commitment(SECRET, "aa" * 32, 7) == found["epoch commitment"]
    received = read(
        found["group message"], SECRET, b"\xbb" * 32, identities=["cc" * 32], seen=Seen()
    )
    assert received.message == b"hello"


def test_what_is_signed():
    payload = bind("handshake", b"responder", *FIELDS)
    kind = b"application/vnd.counterseal.handshake.v1"
    signed = b"DSSEv1 %d %b %d %b" % (len(kind), kind, len(payload), payload)
    assert Transcript(*FIELDS).to_sign("responder") == signed


def test_the_first_message():
    hello = Hello(b"\x11" * 32, check_purpose("test"), b"\x22" * 1216).encode()
    assert hello == b"\x01\x01\x01" + b"\x11" * 32 + b"test".ljust(32, b"\0") + b"\x22" * 1216
