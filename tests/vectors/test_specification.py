"""The known answers that chapters 7 and 18.2 of SPEC.md print are what the program computes."""

from __future__ import annotations

from pathlib import Path

import pytest

from counterseal.crypto import passphrase
from counterseal.crypto.chunked import ChunkedMessage, sealed_bytes
from counterseal.crypto.derive import bind, derive, derive_from_shares
from counterseal.crypto.digest import leaf_digest, sha256
from counterseal.exchange import stanza
from counterseal.exchange.keys import ContentKey
from counterseal.gateway.session import named, token_of
from counterseal.models.manifest import FileEntry, Manifest, ManifestDocument
from counterseal.trust import keyid

SPEC = (Path(__file__).parents[2] / "SPEC.md").read_text().partition("## 7. Test vectors")[2]
K, ID = bytes(range(32)), bytes(range(16))
CARD, PRE, S1, S2 = (bytes([n]) * 32 for n in (0x11, 0x44, 0x22, 0x33))
NUMBER = (1).to_bytes(4, "big")
CORE = sha256(bind("core", b'{"k":1}'))
KEY_ID = "0bd51b05fc1f61004a2b635b49882c0c4e08221a63dc572e8fdd65f1cf0bd8e5"


def file_message() -> bytes:
    key, context = derive(K, "file", ID, NUMBER), bind("file", ID, NUMBER)
    message = ChunkedMessage(key, context=context, size=5, salt=bytes(range(24)))
    return message.seal_whole(b"hello")


def passphrase_keys() -> tuple[bytes, bytes]:
    cost = passphrase.Cost(memory_kib=19456, passes=2, lanes=1)
    context = bind("passphrase stanza", CORE)
    return passphrase._keys(b"correct horse", bytes(16), context, cost)


def content() -> str:
    entry = FileEntry(name="a.txt", media_type="text/plain", bytes=5, salt=bytes(24), sha256=None)
    document = ManifestDocument(
        kind="manifest",
        format=1,
        model="m",
        version=1,
        layout="file",
        files=(entry,),
        owner=None,
        statement=None,
    )
    return Manifest(document, leaf_digest(b"hello")).content


VALUES = {  # computed when asked: a wrong one fails its own test only
    "bind": lambda: bind("file", ID, NUMBER).hex(),
    "commitment": lambda: ContentKey(K, ID.hex()).commitment(),
    "manifest key": lambda: derive(K, "manifest", ID).hex(),
    "file key": lambda: derive(K, "file", ID, NUMBER).hex(),
    "file message, prefix": lambda: file_message()[24:56].hex(),
    "file message, chunk": lambda: file_message()[56:].hex(),
    "hint": lambda: stanza.hint(ID.hex(), CARD.hex()).hex(),
    "prekey hint": lambda: stanza.prekey_hint(ID.hex(), CARD.hex()).hex(),
    "core digest": CORE.hex,
    "kek": lambda: derive_from_shares(S1, "kek", CARD, b"", salt=CORE).hex(),
    "kek with prekey": lambda: derive_from_shares(S1 + S2, "kek", CARD, PRE, salt=CORE).hex(),
    "passphrase key": lambda: passphrase_keys()[0].hex(),
    "passphrase commitment": lambda: passphrase_keys()[1].hex(),
    "leaf digest": lambda: leaf_digest(b"hello").hex(),
    "content digest": content,
    "key id in words": lambda: keyid.words(KEY_ID),
    "key id in digits": lambda: keyid.digits(KEY_ID),
    "token": lambda: token_of(K, ID, "c0" * 16, b"\xd1" * 32),
    "session in a ledger": lambda: named(ID.hex()),
    "sealed(16384)": lambda: f"sealed(16384) = {sealed_bytes(16384):,}",
    "sealed(1048576)": lambda: f"sealed(1048576) = {sealed_bytes(1048576):,}",
}


@pytest.mark.parametrize("value", VALUES)
def test_the_specification_prints_what_the_program_computes(value):
    assert VALUES[value]() in SPEC
