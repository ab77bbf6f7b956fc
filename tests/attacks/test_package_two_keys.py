"""One ciphertext under two keys, and why a package commits to its key three times over.

AES-GCM is not committing. A sender who gives two recipients different keys could make one
package that is two models; an attacker who sends a package that opens under many passphrases
learns from "opened or not" which of them a victim uses (partitioning oracle).
"""

import os

import pytest
import salamander
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.kdf.hkdf import HKDFExpand
from workshop import CHEAP, Cut, attack, undefended

from counterseal.crypto import chunked
from counterseal.crypto import passphrase as passphrases
from counterseal.crypto.chunked import ChunkedMessage
from counterseal.crypto.derive import bind, derive
from counterseal.errors import BadCiphertext
from counterseal.exchange.keys import ContentKey

WANTED = b"weights for bank"
PACKAGE = "ab" * 16


def test_raw_aes_gcm_accepts_both():
    """The control: the construction is good, and AES-GCM alone does not notice."""
    one, two = (os.urandom(32), os.urandom(12)), (os.urandom(32), os.urandom(12))
    sealed = salamander.craft(one, two, WANTED)
    first = AESGCM(one[0]).decrypt(one[1], sealed, None)
    second = AESGCM(two[0]).decrypt(two[1], sealed, None)
    assert first[:16] == WANTED
    assert second != first


def chunk_key(content, salt):
    """(key, nonce of chunk 0) of file 0, as C2SP chunked encryption derives them."""
    package, number = bytes.fromhex(PACKAGE), bytes(4)
    key = derive(content.secret(), "file", package, number)
    info = chunked._INFO + salt + bind("file", package, number)
    material = HKDFExpand(hashes.SHA512(), 76, info).derive(key)
    return material[:32], material[32:44]


def crafted():
    """Two content keys, the prefix of a file under the first, one chunk valid under both."""
    keys = [ContentKey(os.urandom(32), PACKAGE) for _ in range(2)]
    prefix = keys[0].file_message(0, 32).prefix
    return keys, prefix, salamander.craft(*(chunk_key(key, prefix[:24]) for key in keys), WANTED)


@attack(
    BadCiphertext,
    Cut(
        "counterseal.exchange.keys:ContentKey.check",
        "not equal(self.commitment().encode(), commitment.encode())",
        "False",
    ),
)
def two_content_keys(bench):
    """Each recipient's stanza brings another key. The header's commitment names only one."""
    keys, _, _ = crafted()
    return lambda: [key.check(keys[0].commitment()) for key in keys] == [None, None]


@attack(BadCiphertext)
def two_weights(bench):
    """Even with both keys accepted, the message itself names one: C2SP's own commitment."""
    keys, prefix, sealed = crafted()

    def victim():
        found = []
        for key in keys:
            plain = memoryview(bytearray(32))
            key.file_message(0, 32, prefix=prefix).open_leaf(0, memoryview(sealed), plain)
            found.append(bytes(plain))
        return found[0][:16] == WANTED and found[0] != found[1]

    return victim


@attack(
    BadCiphertext,
    Cut("counterseal.crypto.passphrase:unwrap", "equal(commitment, expected)", "True"),
)
def two_passphrases(bench):
    """The wrapped key of a passphrase stanza is two blocks: just right for a salamander."""
    words, salt, context = (b"password", b"letmein"), os.urandom(16), b"context"
    keys = [passphrases._keys(word, salt, context, CHEAP) for word in words]
    sealed = salamander.craft(*((key, bytes(12)) for key, _ in keys), WANTED)
    wrapped = salt + keys[0][1] + sealed

    def victim():
        found = {passphrases.unwrap(wrapped, w, context=context, cost=CHEAP) for w in words}
        return len(found) == 2

    return victim


ATTACKS = {
    "one package with two content keys is refused": two_content_keys,
    "one chunk with two meanings is refused": two_weights,
    "one stanza that opens under two passphrases is refused": two_passphrases,
}


@pytest.mark.parametrize("sentence", ATTACKS)
def test_is_refused(sentence, bench):
    ATTACKS[sentence].is_refused(bench)


@pytest.mark.parametrize("sentence", undefended(ATTACKS))
def test_works_without_the_defence(sentence, bench, monkeypatch):
    ATTACKS[sentence].works_undefended(bench, monkeypatch)


def test_two_weights_work_without_the_commitment(bench, monkeypatch):
    def uncommitted(key, *, context, size, prefix):
        return ChunkedMessage(key, context=context, size=size, salt=prefix[:24])

    monkeypatch.setattr(ChunkedMessage, "opened", uncommitted)
    assert two_weights.make(bench)()
