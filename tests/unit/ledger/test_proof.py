import base64

import pytest
from ledgers import KEYS, SECONDS, fetch_of, shown, some

from counterseal.errors import BadSignature, FormatError, LedgerBroken
from counterseal.ledger.keys import LogSigner
from counterseal.ledger.proof import Proof, prove
from counterseal.wire import limits

FILES = shown(some(300))
SEEN = KEYS.open(FILES["checkpoint"])
PROOF = prove(fetch_of(FILES), SEEN, 259)
DATA = PROOF.encode()


def test_a_proof_file_has_the_form_of_c2sp():
    head, _, checkpoint = DATA.partition(b"\n\n")
    lines = head.decode().split("\n")
    assert lines[0] == "c2sp.org/tlog-proof@v1"
    assert lines[1] == "extra " + base64.b64encode(b"entry 259").decode()
    assert lines[2] == "index 259"
    assert [base64.b64decode(line) for line in lines[3:]] == list(PROOF.hashes)
    assert checkpoint == FILES["checkpoint"]
    assert Proof.parse(DATA) == PROOF


def test_it_stands_alone():
    assert Proof.parse(DATA).check(KEYS) == SEEN


def test_without_the_entry_it_must_be_brought():
    bare = Proof.parse(Proof(259, PROOF.hashes, PROOF.checkpoint, None).encode())
    assert b"extra" not in bare.encode()
    assert bare.check(KEYS, entry=b"entry 259") == SEEN
    with pytest.raises(FormatError, match="without its entry"):
        bare.check(KEYS)


def test_another_entry_index_or_log_is_refused():
    with pytest.raises(LedgerBroken):
        PROOF.check(KEYS, entry=b"entry 258")
    with pytest.raises(LedgerBroken):
        Proof(258, PROOF.hashes, PROOF.checkpoint, b"entry 259").check(KEYS)
    with pytest.raises(LedgerBroken):
        Proof(300, PROOF.hashes, PROOF.checkpoint, b"entry 259").check(KEYS)
    with pytest.raises(BadSignature):
        PROOF.check(LogSigner.generate(KEYS.origin).keys)


def test_a_log_of_one_entry_needs_no_hashes():
    files = shown([b"one"], time=SECONDS)
    made = prove(fetch_of(files), KEYS.open(files["checkpoint"]), 0)
    assert made.hashes == ()
    assert Proof.parse(made.encode()).check(KEYS).checkpoint.size == 1


@pytest.mark.parametrize("index", [-1, 300])
def test_there_is_no_proof_of_what_is_not_there(index):
    with pytest.raises(FormatError, match="there is no entry"):
        prove(fetch_of(FILES), SEEN, index)


BAD = {
    "another version": DATA.replace(b"@v1", b"@v2"),
    "nothing": b"",
    "no index": DATA.replace(b"index 259\n", b""),
    "an index in another spelling": DATA.replace(b"index 259", b"index 0259"),
    "extra after the index": DATA.replace(b"index 259\n", b"").replace(b"extra", b"index 1\nextra"),
    "a hash that is too short": DATA.replace(b"index 259\n", b"index 259\nAAAA\n"),
    "too many hashes": DATA.replace(
        b"index 259\n", b"index 259\n" + 64 * (base64.b64encode(bytes(32)) + b"\n")
    ),
    "no checkpoint": DATA.partition(b"\n\n")[0],
    "not ASCII": b"\xff" + DATA,
    "too long": DATA + bytes(limits.LEDGER_PROOF_BYTES),
    "carriage returns": DATA.replace(b"\n", b"\r\n"),
}


@pytest.mark.parametrize("what", BAD)
def test_what_is_no_proof(what):
    with pytest.raises(FormatError):
        Proof.parse(BAD[what])
