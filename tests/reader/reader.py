"""A second reader of counterseal packages: SPEC.md and no line of counterseal. (n.n) is a chapter.

Whatever is wrong raises an exception. Refused unread: histories with revocations or recovery keys.
Left out for brevity: receiver state (4.3), the owner's statement (4.5: believe nothing in `owner`),
most of the rules for names (3.6), and the patterns and ranges of fields that are not used here.
"""

import hmac
import json
from base64 import b64decode
from datetime import datetime, timedelta
from hashlib import sha3_256, sha256

from blake3 import blake3
from cryptography.cobblestone import Cobblestone256Decryptor
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, mldsa, mlkem, utils, x25519
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.argon2 import Argon2id

MIB, SKEW, P256, POINT = 1 << 20, timedelta(minutes=10), ec.SECP256R1(), ec.EllipticCurvePublicKey
LOWER = 0xFFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551 // 2  # of P-256's n
STANZAS = {1: 1233, 2: 2417, 3: 1266, 4: 2483, 5: 104}  # 3.5: type and length
SHAPES = """payload payloadType signatures/keyid sig/kind format cards revocations/kind format name
serial identity previous created expires grace_days signing agreement statement recovery/threshold
keys/suite classical pq/core card recipients stanzas body size/kind format suite package sender
created expires charter commitment manifest manifest_bytes/kind format model version layout files
owner statement/identity card/name media_type bytes sha256"""
FIELDS = [set(shape.split()) for shape in SHAPES.split("/")]  # all objects there are


def bind(label, *parts):
    framed = (len(part).to_bytes(4) + part for part in parts)
    return b"counterseal/1 " + label.encode() + b"\0" + b"".join(framed)


def digest(label, *parts):
    return sha256(bind(label, *parts)).digest()


def expand(key, info, length=32):  # HKDF-Expand with SHA-512: its first block is always enough
    return hmac.digest(key, info + b"\x01", "sha512")[:length]


def canonical(value):  # RFC 8785, where there are no fractions and all names are ASCII
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()


def shaped(value):
    assert set(value) in FIELDS and value.get("format", 1) == 1, "unknown or missing fields"
    return value


def document(raw, limit, kind):  # 1.2
    assert len(raw) <= limit, "longer than its limit"
    value = json.loads(raw, object_hook=shaped)
    assert canonical(value) == raw and value.get("kind") == kind, f"not one {kind}"
    return value


def signed(envelope, kind, *keys):  # 2.2, by these keys and nobody else
    kind, payload = f"application/vnd.counterseal.{kind}.v1+json", b64decode(envelope["payload"])
    pae = f"DSSEv1 {len(kind)} {kind} {len(payload)} ".encode() + payload
    ids = [one["keyid"] for one in envelope["signatures"]]
    sigs = [b64decode(one["sig"]) for one in envelope["signatures"]]
    assert envelope["payloadType"] == kind and len(ids) == 2 * len(keys), "signed by others"
    for key in keys:
        classical, pq = b64decode(key["classical"]), b64decode(key["pq"])
        at = ids.index(sha256(classical).hexdigest())
        assert at % 2 == 0 and ids[at + 1] == sha256(pq).hexdigest(), "not the halves of one key"
        if key["suite"] == "ed25519+mldsa65":
            ed25519.Ed25519PublicKey.from_public_bytes(classical).verify(sigs[at], pae)
        else:
            r, s = int.from_bytes(sigs[at][:32]), int.from_bytes(sigs[at][32:])
            assert key["suite"] == "p256+mldsa65" and len(sigs[at]) == 64 and s <= LOWER
            signature, algorithm = utils.encode_dss_signature(r, s), ec.ECDSA(SHA256())
            POINT.from_encoded_point(P256, classical).verify(signature, pae, algorithm)
        mldsa.MLDSA65PublicKey.from_public_bytes(pq).verify(sigs[at + 1], pae)


def history(card_file: bytes) -> list[dict]:  # 2.5
    cards, file = [], document(card_file.strip(), 4 * MIB, "cards")
    assert 1 <= len(file["cards"]) <= 256 and not file["revocations"], "not checked here"
    for serial, envelope in enumerate(file["cards"], 1):
        card = document(b64decode(envelope["payload"]), 4 * MIB, "card")
        first, before = (cards[0], cards[-1]) if cards else [card | {"key_id": None}] * 2
        place = [serial, first["key_id"], before["key_id"], first["name"]]
        assert place == [card[f] for f in ("serial", "identity", "previous", "name")], "misplaced"
        assert card["recovery"] == {"threshold": 0, "keys": []}, "not checked here"
        card["from"], card["to"] = map(datetime.fromisoformat, (card["created"], card["expires"]))
        assert card["from"] < card["to"] <= card["from"] + timedelta(1830), "times of a card"
        assert not cards or before["from"] <= card["from"] and before["signing"] != card["signing"]
        signed(envelope, "card", *(one["signing"] for one in (*cards[-1:], card)))
        cards.append(card | {"key_id": digest("card", b64decode(envelope["payload"])).hex()})
    return cards


