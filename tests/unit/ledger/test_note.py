import base64

import pytest
from ledgers import SECONDS
from workshop import flip

from counterseal.errors import BadSignature, FormatError
from counterseal.ledger import note
from counterseal.ledger.checkpoint import Checkpoint
from counterseal.ledger.note import Kind, NoteKey, NoteSigner, Signature
from counterseal.ledger.tree import EMPTY_ROOT
from counterseal.wire import limits

# c2sp.org/signed-note, "Example" under "Verifier keys"
SPEC_KEY = "example.com/foo+530d903a+AekyeRrm56hApGFkyQR4ZCbV54Id2LKaANYcrnKv3U2k"
SPEC_NOTE = (
    "This is an example message.\n\n— example.com/foo "
    "Uw2QOkn8srV1yJGh2VYRlL1Tnagv1YEq6TfXppzi2ONncAlTgK7Ztg1ERYNZXsYjOBH3mFXmRKuwHjG1Yu72IneyaQM=\n"
).encode()
TEXT = Checkpoint("example.com/log", 7, bytes(range(32))).text
SIGNERS = {kind: NoteSigner("example.com/log", kind, bytes([kind]) * 32) for kind in Kind}
KEYS = [signer.key for signer in SIGNERS.values()]


def signed(text=TEXT, kinds=tuple(Kind)):
    return note.join(text, [SIGNERS[kind].sign(text, time=SECONDS) for kind in kinds])


def test_the_example_of_the_specification():
    key = NoteKey.parse(SPEC_KEY)
    opened = note.open_note(SPEC_NOTE, known=[key])
    assert opened.text == "This is an example message.\n"
    assert opened.by == {key: None}
    assert key.text == SPEC_KEY


@pytest.mark.parametrize("kind", Kind)
def test_each_kind_signs_and_opens(kind):
    key = SIGNERS[kind].key
    assert NoteKey.parse(key.text) == key
    opened = note.open_note(signed(kinds=[kind]), known=KEYS)
    assert opened.by == {key: None if kind is Kind.ED25519 else SECONDS}


@pytest.mark.parametrize("kind", Kind)
def test_any_change_is_noticed(kind):
    data = signed(kinds=[kind])
    line = data.rindex(b" ") + 1
    body = bytearray(base64.b64decode(data[line:]))
    for at in (4, 8, 11, 12, len(body) - 1):
        changed = data[:line] + base64.b64encode(flip(body, at)) + b"\n"
        with pytest.raises(BadSignature):
            note.open_note(changed, known=KEYS)
    with pytest.raises(BadSignature):
        note.open_note(data.replace(b"\n7\n", b"\n8\n"), known=KEYS)


def test_one_bad_signature_of_a_known_key_spoils_the_note():
    data = signed(kinds=[Kind.ED25519]) + SIGNERS[4].sign("other\n", time=SECONDS).line.encode()
    assert note.open_note(data, known=KEYS[:1]).text == TEXT  # of an unknown key: says nothing
    with pytest.raises(BadSignature):
        note.open_note(data, known=KEYS)


def test_a_note_of_strangers_says_nothing():
    stranger = NoteSigner("example.com/log", Kind.ED25519, bytes(32)).key
    with pytest.raises(BadSignature, match="not signed by any key"):
        note.open_note(signed(), known=[stranger])
    with pytest.raises(BadSignature):
        note.open_note(signed(), known=[])


def test_kinds_do_not_stand_in_for_each_other():
    """The same key under another kind has another id, and signs another message."""
    plain = NoteSigner("w", Kind.ED25519, bytes(32))
    cosigner = NoteSigner("w", Kind.ED25519_COSIGNATURE, bytes(32))
    assert plain.key.public == cosigner.key.public
    assert plain.key.id != cosigner.key.id
    made = cosigner.sign(TEXT, time=SECONDS)
    with pytest.raises(BadSignature):
        plain.key.verify(made.signature[8:], TEXT)


@pytest.mark.parametrize("time", [0, 1 << 63])
@pytest.mark.parametrize("kind", [Kind.ED25519_COSIGNATURE, Kind.MLDSA44_COSIGNATURE])
def test_a_cosignature_has_a_time(kind, time):
    data = note.join(TEXT, [SIGNERS[kind].sign(TEXT, time=time)])
    with pytest.raises(BadSignature, match="no time"):
        note.open_note(data, known=KEYS)


NO_NOTES = {
    "no signature": TEXT.encode(),
    "nothing": b"",
    "no newline at the end": signed()[:-1],
    "not UTF-8": b"\xff" + signed(),
    "a carriage return": signed().replace(b"\n7\n", b"\r\n7\n"),
    "a hyphen for the dash": signed().replace("—".encode(), b"-"),
    "no name": signed().replace("— example.com/log".encode(), "— ".encode()),
    "a plus in the name": signed().replace("— example.com".encode(), "— example+com".encode()),
    "a space in the name": signed().replace("— example.com".encode(), "— example com".encode()),
    "not base64": signed(kinds=[1])[:-3] + b"!!\n",
    "no padding": signed(kinds=[1]).replace(b"=\n", b"\n"),
    "an id alone": f"{TEXT}\n— a {base64.b64encode(b'1234').decode()}\n".encode(),
    "empty line after": signed() + b"\n",
    "too long": b"a" * limits.LEDGER_NOTE_BYTES + signed(),
    "too many signatures": signed() + Signature("a", b"1234", b"5").line.encode() * 32,
}


@pytest.mark.parametrize("what", NO_NOTES)
def test_what_is_no_note(what):
    with pytest.raises(FormatError):
        note.split(NO_NOTES[what])


def test_sixteen_signatures_are_not_too_many():
    """The specification asks for at least that; ML-DSA-44 ones are the longest."""
    others = [
        NoteSigner(f"w{n}", Kind.MLDSA44_COSIGNATURE, bytes([n]) * 32).sign(TEXT, time=1)
        for n in range(30)
    ]
    opened = note.open_note(
        signed(kinds=[1]) + "".join(one.line for one in others).encode(), known=KEYS
    )
    assert len(opened.by) == 1


KEY_TEXT = SIGNERS[Kind.ED25519].key.text


@pytest.mark.parametrize(
    "text",
    [
        "", "a+b", KEY_TEXT + "\n", KEY_TEXT + "=", KEY_TEXT[:-1], KEY_TEXT.replace("+", "-", 1),
        KEY_TEXT.replace("log", "lag"), KEY_TEXT.upper(),
        "a+00000000+" + base64.b64encode(b"\x02" + bytes(32)).decode(),
        "a+00000000+" + base64.b64encode(b"\x01" + bytes(31)).decode(),
        "a+00000000+" + base64.b64encode(b"\x01" + bytes(32)).decode(),
        "a b+00000000+AQ==",
    ],
)  # fmt: skip
def test_what_is_no_key(text):
    with pytest.raises(FormatError):
        NoteKey.parse(text)


def test_a_checkpoint_of_the_specification():
    text = "example.com/behind-the-sofa\n20852163\nCsUYapGGPo4dkMgIAUqom/Xajj7h2fB2MPA3j2jxq2I=\n"
    checkpoint = Checkpoint.parse(text)
    assert (checkpoint.origin, checkpoint.size) == ("example.com/behind-the-sofa", 20852163)
    assert checkpoint.text == text


@pytest.mark.parametrize(
    "text",
    [
        "", TEXT[:-1], TEXT + "more\n", "\n" + TEXT, TEXT.replace("\n7\n", "\n07\n"),
        TEXT.replace("\n7\n", "\n-7\n"), TEXT.replace("\n7\n", f"\n{1 << 63}\n"),
        TEXT.replace("\n7\n", "\n0\n"), TEXT.replace("\n7\n", "\n٧\n"), TEXT.replace("=", ""),
        TEXT.replace("8=\n", "9=\n"), "a" * 256 + TEXT, "o\n1\nAAAA\n",
    ],
)  # fmt: skip
def test_what_is_no_checkpoint(text):
    with pytest.raises(FormatError):
        Checkpoint.parse(text)


def test_the_empty_tree_has_its_own_root():
    assert Checkpoint.parse(Checkpoint("o", 0, EMPTY_ROOT).text).size == 0


def test_a_signer_does_not_show_its_key():
    assert repr(SIGNERS[1]) == "<NoteSigner example.com/log>"
