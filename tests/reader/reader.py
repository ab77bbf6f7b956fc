"""A second reader of counterseal packages: SPEC.md (n.n) and not one line of counterseal.

Whatever is wrong raises. Refused, to be short: P-256 halves, revocations, recovery keys, replaced
cards. Not judged: receiver state (4.3), the owner's statement (4.5), ranges of unused fields (1.2).
"""

import hmac
import json
import struct
from base64 import b64decode
from datetime import datetime, timedelta
from hashlib import sha256

from blake3 import blake3
from cryptography.cobblestone import Cobblestone256Decryptor
from cryptography.hazmat.primitives import hpke
from cryptography.hazmat.primitives.asymmetric import ed25519, mldsa, mlkem, x25519
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.kdf.argon2 import Argon2id

KIB, MIB, STANZAS = 1 << 10, 1 << 20, {1: 1233, 2: 2417, 5: 104}  # type and length
CARD, PACKAGE = (f"application/vnd.counterseal.{name}.v1+json" for name in ("card", "package"))
USES = ("key", "commitment")
XWING = hpke.Suite(hpke.KEM.MLKEM768_X25519, hpke.KDF.HKDF_SHA512, hpke.AEAD.AES_256_GCM)


def need(holds, why):
    if not holds:
        raise ValueError(why)


def bind(label, *parts):  # 1.1
    framed = (len(part).to_bytes(4, "big") + part for part in parts)
    return b"counterseal/1 " + label.encode() + b"\0" + b"".join(framed)


def digest(label, *parts):
    return sha256(bind(label, *parts)).digest()


def expand(key, info):  # HKDF-Expand with SHA-512, of which the first 32 bytes are enough here
    return hmac.digest(key, info + b"\x01", "sha512")[:32]


def canonical(value):  # RFC 8785, where there are no fractions and all field names are ASCII
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()


def document(raw, limit, kind=None):  # 1.2
    need(len(raw) <= limit, "longer than its limit")
    value = json.loads(raw)
    need(canonical(value) == raw, "not canonical")
    need(kind is None or (value["kind"], value["format"]) == (kind, 1), f"not a {kind}")
    return value


def signed(envelope, kind, *keys):  # 2.2: by all of these keys and nobody else
    payload = b64decode(envelope["payload"], validate=True)
    need(envelope["payloadType"] == kind, "of another payload type")
    pae = f"DSSEv1 {len(kind)} {kind} {len(payload)} ".encode() + payload
    need(len(envelope["signatures"]) == 2 * len(keys), "signed by others")
    found = {one["keyid"]: b64decode(one["sig"]) for one in envelope["signatures"]}
    for key in keys:
        need(key["suite"] == "ed25519+mldsa65", "a suite that is not read here")
        classical, pq = b64decode(key["classical"]), b64decode(key["pq"])
        for kinds, raw in ((ed25519.Ed25519PublicKey, classical), (mldsa.MLDSA65PublicKey, pq)):
            kinds.from_public_bytes(raw).verify(found.pop(sha256(raw).hexdigest()), pae)
    return payload


def history(card_file: bytes) -> list[dict]:  # 2.5
    cards, file = [], document(card_file.strip(), 4 * MIB, "cards")
    need(file["cards"] and not file["revocations"] and len(file) == 4, "revocations, or no cards")
    for serial, envelope in enumerate(file["cards"], 1):
        card = document(payload := b64decode(envelope["payload"]), 4 * MIB, "card")
        first, before = (cards[0], cards[-1]) if cards else [card | {"key_id": None}] * 2
        place = [serial, first["key_id"], before["key_id"], first["name"]]
        need(place == [card[f] for f in ("serial", "identity", "previous", "name")], "misplaced")
        need(not card["recovery"]["keys"], "recovery keys")
        need(before["created"] <= card["created"] < card["expires"], "times")
        need(not cards or before["signing"] != card["signing"], "the same key again")
        signed(envelope, CARD, *(one["signing"] for one in (*cards[-1:], card)))
        cards.append(card | {"key_id": digest("card", payload).hex()})
    return cards


def content_key(core, stanzas, keys, prekeys, passphrase):  # 3.5
    package, named = bytes.fromhex(core["package"]), digest("core", canonical(core))
    if passphrase is not None:
        (stanza,) = stanzas
        kind, memory, passes, lanes = struct.unpack(">BIHB", stanza[:8])
        need(kind == 5 and memory <= MIB and passes <= 16 and lanes <= 16, "cost")
        cost = {"iterations": passes, "lanes": lanes, "memory_cost": memory}
        stretched = Argon2id(salt=stanza[8:24], length=32, **cost).derive(passphrase)
        context = bind("passphrase stanza", named)
        kek, committed = (expand(stretched, bind(f"passphrase {name}", context)) for name in USES)
        need(hmac.compare_digest(committed, stanza[24:56]), "another passphrase")
    else:
        card, prekey, openers = bytes.fromhex(keys["card"]), b"", [keys]
        (stanza,) = [s for s in stanzas if s[1:17] == digest("hint", package, card)[:16]]
        if stanza[0] == 2:
            hints = [digest("prekey hint", package, bytes.fromhex(p["id"]))[:16] for p in prekeys]
            openers.append(prekeys[hints.index(stanza[17:33])])
            prekey = bytes.fromhex(openers[1]["id"])
        at, info, parts = 1 + 16 * len(openers), bind("share", named, card, prekey), b""
        for i, own in enumerate(openers):  # 2.3
            pq = mlkem.MLKEM768PrivateKey.from_seed_bytes(own["pq"])
            pair = pq, x25519.X25519PrivateKey.from_private_bytes(own["classical"])
            sealed = stanza[at + 1168 * i :][:1168]
            parts += XWING.decrypt(sealed, hpke.MLKEM768X25519PrivateKey(*pair), info=info)
        kek = expand(hmac.digest(named, parts, "sha512"), bind("kek", card, prekey))
    key = AESGCM(kek).decrypt(bytes(12), stanza[-48:], None)
    need(expand(key, bind("commitment", package)).hex() == core["commitment"], "another key")
    return key


def front(package, cards, at):  # 4.1
    magic, head, rest = struct.unpack(">16sII", package[:24])
    need(magic == b"\x89counterseal\x01\r\n\x1a", "not a package of version 1")
    end, wrapped, stanzas, card = 24 + head + rest, package[24 + head :][:rest], [], cards[-1]
    envelope = document(package[24 : 24 + head], 32 * KIB)
    header = document(signed(envelope, PACKAGE, card["signing"]), 32 * KIB)
    core = header["core"]
    need((core["kind"], core["format"], core["suite"]) == ("package", 1, "counterseal-1"), "kind")
    need((core["sender"], header["card"]) == (cards[0]["key_id"], card["key_id"]), "sender")
    need(header["size"] == len(package) and end <= header["body"], "another length")
    need(not any(package[end : header["body"]]), "something between stanzas and body")
    begun = datetime.fromisoformat(card["created"]) - timedelta(minutes=10)
    need(begun <= at <= datetime.fromisoformat(card["expires"]), "the card is not in force")
    need(core["expires"] is None or at <= datetime.fromisoformat(core["expires"]), "expired")
    need(sha256(wrapped).hexdigest() == header["stanzas"], "other stanzas")
    while wrapped:
        stanzas.append(wrapped[: STANZAS[wrapped[0]]])
        wrapped = wrapped[STANZAS[wrapped[0]] :]
    need(len(stanzas) == header["recipients"], "stanzas")
    return header, stanzas


def read(package, sender_card_file, *, keys=None, prekeys=(), passphrase=None, at):
    """Return the manifest and the contents of the files, by name."""
    header, stanzas = front(package, history(sender_card_file), at)
    core, files = header["core"], {}

    def opened(message, *context):  # 3.4
        c2sp = Cobblestone256Decryptor(expand(key, bind(*context)), bind(*context))
        return c2sp.update(message) + c2sp.finalize()

    key = content_key(core, stanzas, keys, prekeys, passphrase)
    ident, start = bytes.fromhex(core["package"]), header["body"] + core["manifest_bytes"]
    message = package[header["body"] : start]
    need(sha256(message).hexdigest() == core["manifest"], "another manifest")
    plain = opened(message, "manifest", ident)
    cut = 4 + int.from_bytes(plain[:4], "big")
    manifest = document(plain[4:cut], 64 * MIB, "manifest")
    for index, file in enumerate(manifest["files"]):
        size, leaf = file["bytes"], cut
        message = package[start : start + 56 + size + 16 * (size // 16384 + 1)]
        data = opened(message, "file", ident, index.to_bytes(4, "big"))
        cut += 32 * -(-size // MIB)
        leaves = b"".join(blake3(data[i : i + MIB]).digest() for i in range(0, size, MIB))
        need(len(data) == size and leaves == plain[leaf:cut], "other leaves")
        need(message[:24] == b64decode(file["salt"]), "another salt")
        start, files[file["name"]] = start + len(message), data
    need(files and start == len(package) and not any(plain[cut:]), "more than the files")
    return manifest, files
