"""A second reader of counterseal packages: SPEC.md (n.n) and not one line of counterseal.

Whatever is wrong raises. Refused, not judged: revocations, recovery keys. Left out to be short:
receiver state (4.3), and patterns and ranges of fields whose values are not used here (1.2).
"""

import hmac
import json
import re
from base64 import b64decode
from datetime import datetime, timedelta
from hashlib import sha3_256, sha256
from unicodedata import category, normalize

from blake3 import blake3
from cryptography.cobblestone import Cobblestone256Decryptor
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, mldsa, mlkem, utils, x25519
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.argon2 import Argon2id

KIB, MIB, TIME, SKEW = 1 << 10, 1 << 20, datetime.fromisoformat, timedelta(minutes=10)
P256, POINT = ec.SECP256R1(), ec.EllipticCurvePublicKey.from_encoded_point
ORDER = 0xFFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551  # of P-256
UNSAFE = {"Cc", "Cf", "Cs", "Cn", "Zl", "Zp"}
STANZAS = {1: 1233, 2: 2417, 3: 1266, 4: 2483, 5: 104}  # type and length
TYPE, OWNED = "application/vnd.counterseal.{}.v1+json", "application/vnd.in-toto+json"
DEVICE = re.compile(r"(con|prn|aux|nul|conin\$|conout\$|(com|lpt)[0-9¹²³]) *(\..*)?", re.DOTALL)
FIELDS = """payload payloadType signatures/keyid sig/kind format cards revocations/kind format name
serial identity previous created expires grace_days signing agreement statement recovery/threshold
keys/suite classical pq/core card recipients stanzas body size/kind format suite package sender
created expires charter commitment manifest manifest_bytes/kind format model version layout files
owner statement/identity card/name media_type bytes sha256"""


def need(holds, why):
    if not holds:
        raise ValueError(why)


def bind(label, *parts):  # 1.1
    framed = (len(part).to_bytes(4) + part for part in parts)
    return b"counterseal/1 " + label.encode() + b"\0" + b"".join(framed)


def digest(label, *parts):
    return sha256(bind(label, *parts)).digest()


def expand(key, info, length=32):  # HKDF-Expand with SHA-512: its first block is always enough
    return hmac.digest(key, info + b"\x01", "sha512")[:length]


def canonical(value):  # RFC 8785, where there are no fractions and all field names are ASCII
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()


def document(raw, limit, kind=None):  # 1.2
    def exact(fields):
        need(set(fields) in [set(names.split()) for names in FIELDS.split("/")], "other fields")
        return fields

    need(len(raw) <= limit, "longer than its limit")
    value = json.loads(raw, object_hook=exact, parse_float=int)  # int refuses 1.0
    need(canonical(value) == raw, "not canonical")
    said = [value.get("kind"), value.get("format")]
    need(canonical(said) == canonical([kind, kind and 1]), f"not a {kind}")
    return value


def encoded(envelope, kind):  # the PAE of 1.2
    payload = b64decode(envelope["payload"], validate=True)
    need(envelope["payloadType"] == kind, "of another payload type")
    return f"DSSEv1 {len(kind)} {kind} {len(payload)} ".encode() + payload


def signed(envelope, kind, *keys):  # 2.2: by all of these keys and nobody else
    pae = encoded(envelope, kind)
    ids = [one["keyid"] for one in envelope["signatures"]]
    sigs = [b64decode(one["sig"]) for one in envelope["signatures"]]
    need(len(ids) == 2 * len(keys), "signed by others")
    for key in keys:
        classical, pq = b64decode(key["classical"]), b64decode(key["pq"])
        at = ids.index(sha256(classical).hexdigest())
        need(at % 2 == 0 and ids[at + 1] == sha256(pq).hexdigest(), "not two halves of one key")
        mldsa.MLDSA65PublicKey.from_public_bytes(pq).verify(sigs[at + 1], pae)
        if key["suite"] == "p256+mldsa65":
            r, s = int.from_bytes(sigs[at][:32]), int.from_bytes(sigs[at][32:])
            need(len(sigs[at]) == 64 and s <= ORDER // 2, "not the lower s")
            need(len(classical) == 65, "not an uncompressed point")
            der = utils.encode_dss_signature(r, s)
            POINT(P256, classical).verify(der, pae, ec.ECDSA(SHA256()))
        else:
            need(key["suite"] == "ed25519+mldsa65", "unknown suite")
            ed25519.Ed25519PublicKey.from_public_bytes(classical).verify(sigs[at], pae)


def history(card_file: bytes) -> list[dict]:  # 2.5
    cards, file = [], document(card_file.strip(), 4 * MIB, "cards")
    need(1 <= len(file["cards"]) <= 256 and file["revocations"] == [], "not judged here")
    for serial, envelope in enumerate(file["cards"], 1):
        card = document(payload := b64decode(envelope["payload"]), 4 * MIB, "card")
        first, before = (cards[0], cards[-1]) if cards else [card | {"key_id": None}] * 2
        place = [serial, first["key_id"], before["key_id"], first["name"]]
        need(place == [card[f] for f in ("serial", "identity", "previous", "name")], "misplaced")
        need(card["recovery"] == {"threshold": 0, "keys": []}, "not judged here")
        need(before["created"] <= card["created"] < card["expires"], "times")
        need(TIME(card["expires"]) <= TIME(card["created"]) + timedelta(1830), "times")
        need(not cards or before["signing"] != card["signing"], "the same key again")
        signed(envelope, TYPE.format("card"), *(one["signing"] for one in (*cards[-1:], card)))
        cards.append(card | {"key_id": digest("card", payload).hex()})
    return cards


def unseal(key, sealed, info):  # 2.3 and RFC 9180
    if key["suite"] == "x25519+mlkem768":
        kem, label, peer = b"\x64\x7a", b"\\.//^\\", sealed[1088:1120]
        own = x25519.X25519PrivateKey.from_private_bytes(key["classical"])
        public = own.public_key().public_bytes_raw()
        agreed = own.exchange(x25519.X25519PublicKey.from_public_bytes(peer))
    else:
        kem, label, peer = b"\x00\x50", b"MLKEM768-P256", sealed[1088:1153]
        own = ec.derive_private_key(int.from_bytes(key["classical"]), P256)
        point = own.public_key().public_numbers()
        public = b"\x04" + point.x.to_bytes(32) + point.y.to_bytes(32)
        agreed = own.exchange(ec.ECDH(), POINT(P256, peer))
    quantum = mlkem.MLKEM768PrivateKey.from_seed_bytes(key["pq"]).decapsulate(sealed[:1088])
    shared = sha3_256(quantum + agreed + peer + public + label).digest()
    suite = b"HPKE-v1HPKE" + kem + b"\x00\x03\x00\x02"
    context = b"\x00" + hmac.digest(b"", suite + b"psk_id_hash", "sha512")
    context += hmac.digest(b"", suite + b"info_hash" + info, "sha512")
    secret = hmac.digest(shared, suite + b"secret", "sha512")
    aead = AESGCM(expand(secret, b"\x00\x20" + suite + b"key" + context))
    nonce = expand(secret, b"\x00\x0c" + suite + b"base_nonce" + context, 12)
    return aead.decrypt(nonce, sealed[1088 + len(peer) :], None)


def content_key(core, stanzas, keys, prekeys, passphrase):  # 3.5
    package, named = bytes.fromhex(core["package"]), digest("core", canonical(core))
    if passphrase is not None:
        (stanza,) = stanzas
        memory, passes, lanes = int.from_bytes(stanza[1:5]), int.from_bytes(stanza[5:7]), stanza[7]
        need(stanza[0] == 5 and 19_456 <= memory <= MIB and memory * passes >= 38_912, "cost")
        need(passes <= 16 and 1 <= lanes <= 16 and 1 <= len(passphrase) <= 4096, "cost")
        cost = {"iterations": passes, "lanes": lanes, "memory_cost": memory}
        stretched = Argon2id(salt=stanza[8:24], length=32, **cost).derive(passphrase)
        context = bind("passphrase stanza", named)
        need(
            expand(stretched, bind("passphrase commitment", context)) == stanza[24:56],
            "another passphrase",
        )
        kek = expand(stretched, bind("passphrase key", context))
    else:
        card, pre, openers = bytes.fromhex(keys["card"]), b"", [keys]
        (stanza,) = [s for s in stanzas if s[1:17] == digest("hint", package, card)[:16]]
        if stanza[0] in (2, 4):
            ids = [bytes.fromhex(prekey["id"]) for prekey in prekeys]
            at = [digest("prekey hint", package, one)[:16] for one in ids].index(stanza[17:33])
            pre, openers = ids[at], [keys, prekeys[at]]
        shares, size = stanza[1 + 16 * len(openers) : -48], 1168 if stanza[0] < 3 else 1201
        info = bind("share", named, card, pre)
        parts = [unseal(key, shares[size * i :][:size], info) for i, key in enumerate(openers)]
        kek = expand(hmac.digest(named, b"".join(parts), "sha512"), bind("kek", card, pre))
    key = AESGCM(kek).decrypt(bytes(12), stanza[-48:], None)
    need(expand(key, bind("commitment", package)).hex() == core["commitment"], "another key")
    return key


def opened(key, context, message):  # 3.4
    decryptor = Cobblestone256Decryptor(expand(key, context), context)
    return decryptor.update(message) + decryptor.finalize()


def front(package, cards, at):  # 4.1
    head, rest = int.from_bytes(package[16:20]), int.from_bytes(package[20:24])
    end, wrapped, stanzas = 24 + head + rest, package[24 + head : 24 + head + rest], []
    need(package[:16] == b"\x89counterseal\x01\r\n\x1a", "not a package of version 1")
    need(head <= 32 * KIB and rest <= 64 * MIB, "longer than its limit")
    envelope = document(package[24 : 24 + head], 32 * KIB)
    header = document(b64decode(envelope["payload"]), 32 * KIB)
    core, body, room = header["core"], header["body"], header["size"] - header["body"]
    said = canonical([core["kind"], core["format"], core["suite"]])
    need(said == b'["package",1,"counterseal-1"]', "not a package")
    need(0 <= core["manifest_bytes"] <= min(room, 201_524_296), "no room for the manifest")
    need(header["size"] == len(package) and end <= body <= 134_250_520, "another length")
    need(package.count(0, end, body) == body - end, "something in the gap")
    need(core["sender"] == cards[0]["key_id"], "another sender")
    (card, *newer) = cards[[card["key_id"] for card in cards].index(header["card"]) :]
    if newer:
        replaced, until = TIME(newer[0]["created"]), TIME(card["expires"])
        need(at <= replaced + timedelta(card["grace_days"]), "replaced too long ago")
        need(TIME(core["created"]) <= min(replaced, until) + SKEW, "made too late")
    else:
        need(TIME(card["created"]) - SKEW <= at <= TIME(card["expires"]), "not in force")
    signed(envelope, TYPE.format("package"), card["signing"])
    need(sha256(wrapped).hexdigest() == header["stanzas"], "other stanzas")
    need(core["expires"] is None or at <= TIME(core["expires"]), "expired")
    at = 0
    while at < rest:
        stanzas.append(wrapped[at : at + STANZAS[wrapped[at]]])
        at += STANZAS[wrapped[at]]
    need(at == rest, "a cut stanza")
    need(len(stanzas) == 1 or all(one[0] != 5 for one in stanzas), "a passphrase and others")
    need(len({s[1:17] for s in stanzas}) == len(stanzas) == header["recipients"], "stanzas")
    return header, stanzas


def safe(names):  # 3.6
    folded = {normalize("NFC", name.casefold()) for name in names}
    need(names == sorted(names) and len(folded) == len(names), "not sorted, or twice the same")
    for name in names:
        need(len(name.encode()) <= 1024 and normalize("NFC", name) == name, "name")
        need(not any(c in "\\:" or category(c) in UNSAFE for c in name), "name")
        for part in name.split("/"):
            need(part and part[-1] not in ". " and len(part.encode()) <= 255, "name")
            need(not DEVICE.fullmatch(part.casefold()), "name")
    for parts in (name.split("/") for name in folded):
        above = {"/".join(parts[:depth]) for depth in range(1, len(parts))}
        need(not above & folded, "a file and a folder")


def owner(manifest, content, cards):  # 4.5
    if manifest["owner"] is None:
        need(manifest["statement"] is None, "a statement of nobody")
        return None
    envelope = json.loads(manifest["statement"])["dsseEnvelope"]
    pae, said = encoded(envelope, OWNED), json.loads(b64decode(envelope["payload"]))
    predicate, resources = said["predicate"], said["predicate"]["resources"]
    need(said["_type"] == "https://in-toto.io/Statement/v1", "type")
    need(said["predicateType"] == "https://model_signing/signature/v1.0", "predicate type")
    need(all(one["algorithm"] == "sha256" for one in resources), "algorithm")
    if "counterseal" not in predicate or manifest["owner"]["identity"] != cards[0]["key_id"]:
        return None
    (card,) = [card for card in cards if card["key_id"] == manifest["owner"]["card"]]
    first, *pair = envelope["signatures"]
    point = POINT(P256, b64decode(card["statement"]))
    point.verify(b64decode(first["sig"], validate=True), pae, ec.ECDSA(SHA256()))
    signed(envelope | {"signatures": pair}, OWNED, card["signing"])
    files = {one["name"]: one["sha256"] for one in manifest["files"]}
    git = {".git", ".gitattributes", ".github", ".gitignore"}
    kept = {n: files[n] for n in files if n.split("/")[0] not in git and n != "model.sig"}
    kept = kept if manifest["layout"] == "folder" else {".": next(iter(files.values()))}
    need({one["name"]: one["digest"] for one in resources} == kept, "other resources")
    need(predicate["counterseal"] == {"format": 1, "content": content.hex()}, "other content")
    return cards[0]["key_id"]


def read(package: bytes, sender_card_file: bytes, *, keys: dict | None = None,
         prekeys: list[dict] = (), passphrase: bytes | None = None,
         at: datetime) -> tuple[dict, dict[str, bytes]]:  # fmt: skip
    """Return the manifest, with `verified_owner` (an identity or None) added, and the files."""
    cards = history(sender_card_file)
    header, stanzas = front(package, cards, at)
    core, files, content = header["core"], {}, []
    key, ident = (
        content_key(core, stanzas, keys, prekeys, passphrase),
        bytes.fromhex(core["package"]),
    )
    start = header["body"] + core["manifest_bytes"]
    message = package[header["body"] : start]
    need(sha256(message).hexdigest() == core["manifest"], "another manifest")
    plain = opened(key, bind("manifest", ident), message)
    cut = 4 + int.from_bytes(plain[:4])
    manifest = document(plain[4:cut], 64 * MIB, "manifest")
    names = [file["name"] for file in manifest["files"]]
    safe(names)
    single = len(names) == 1 and "/" not in names[0]
    need(manifest["layout"] == "folder" or (manifest["layout"] == "file" and single), "layout")
    for index, file in enumerate(manifest["files"]):
        size, count = file["bytes"], -(-file["bytes"] // MIB)
        message = package[start : start + 56 + size + 16 * (size // 16384 + 1)]
        data = opened(key, bind("file", ident, index.to_bytes(4)), message)
        leaves = b"".join(blake3(data[at : at + MIB]).digest() for at in range(0, size, MIB))
        need(len(data) == size and leaves == plain[cut : cut + 32 * count], "other leaves")
        start, cut, files[file["name"]] = start + len(message), cut + 32 * count, data
        content += [file["name"].encode(), size.to_bytes(8), sha256(leaves).digest()]
    need(files and start == len(package) and not any(plain[cut:]), "more than the files")
    return manifest | {"verified_owner": owner(manifest, digest("content", *content), cards)}, files
