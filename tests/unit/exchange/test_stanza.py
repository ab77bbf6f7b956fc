import pytest
from workshop import CHEAP, PASSPHRASE, Parts, for_keys

from counterseal.crypto.agreement import AgreementKey, AgreementSuite
from counterseal.errors import BadCiphertext, FormatError, UnknownVersion
from counterseal.exchange import front, stanza
from counterseal.exchange.keys import ContentKey
from counterseal.exchange.stanza import KeyStanza, PassphraseStanza
from counterseal.wire import limits

CARD, PREKEY = "ab" * 32, "cd" * 32


@pytest.fixture
def core(bench):
    return Parts.of(bench.seal(b"weights").read_bytes()).header.core


def committed(core):
    import msgspec

    key = ContentKey.generate()
    key.package = core.package
    return key, msgspec.structs.replace(core, commitment=key.commitment())


@pytest.mark.parametrize("suite", list(AgreementSuite))
@pytest.mark.parametrize("with_prekey", [False, True])
def test_round_trip(core, suite, with_prekey):
    content, core = committed(core)
    ours, once = AgreementKey.generate(suite), AgreementKey.generate(suite)
    public = (PREKEY, once.public) if with_prekey else None
    made = KeyStanza.seal(content, core, card=CARD, to=ours.public, prekey=public)
    assert made.forward_secret == with_prekey
    data = made.encode()
    assert len(data) == stanza.key_stanza_bytes(suite, prekey=with_prekey)
    (read,) = stanza.parse(data, recipients=1)
    assert read == made
    private = (PREKEY, once) if with_prekey else None
    assert read.open(core, card=CARD, by=ours, prekey=private).secret() == content.secret()
    stranger = AgreementKey.generate(suite)
    wrong = [
        {"card": CARD, "by": stranger, "prekey": private},
        {"card": "ef" * 32, "by": ours, "prekey": private},
    ]
    if with_prekey:
        wrong.append({"card": CARD, "by": ours, "prekey": (PREKEY, stranger)})
        wrong.append({"card": CARD, "by": ours, "prekey": ("ef" * 32, once)})
        wrong.append({"card": CARD, "by": ours, "prekey": None})
    for arguments in wrong:
        with pytest.raises(BadCiphertext):
            read.open(core, **arguments)


def test_a_prekey_of_another_suite_is_refused(core):
    content, core = committed(core)
    one, two = (AgreementKey.generate(suite) for suite in AgreementSuite)
    with pytest.raises(FormatError):
        KeyStanza.seal(content, core, card=CARD, to=one.public, prekey=(PREKEY, two.public))


def test_a_passphrase(core):
    content, core = committed(core)
    made = PassphraseStanza.seal(content, core, PASSPHRASE, CHEAP)
    (read,) = stanza.parse(made.encode(), recipients=1)
    assert len(made.encode()) == stanza.PASSPHRASE_STANZA_BYTES
    assert not read.forward_secret
    assert read.open(core, PASSPHRASE).secret() == content.secret()
    with pytest.raises(BadCiphertext):
        read.open(core, b"another")


@pytest.mark.parametrize("memory", [0, 1024, (1 << 20) + 1, 2**32 - 1])
def test_a_cost_out_of_range_is_refused(core, memory):
    content, core = committed(core)
    data = bytearray(PassphraseStanza.seal(content, core, PASSPHRASE, CHEAP).encode())
    data[1:5] = memory.to_bytes(4, "big")
    with pytest.raises(FormatError):
        stanza.parse(bytes(data), recipients=1)


def test_hints_tell_nothing_without_the_card():
    assert stanza.hint("00" * 16, CARD) != stanza.hint("11" * 16, CARD)
    assert stanza.hint("00" * 16, CARD) != stanza.prekey_hint("00" * 16, CARD)
    assert len(stanza.hint("00" * 16, CARD)) == 16


def test_lengths_and_numbers(bench, core):
    content, core = committed(core)
    both = stanza.encode(
        front.make_stanzas(content, core, for_keys([bench.clinic, bench.bank], bench.cast))
    )
    assert len(stanza.parse(both, recipients=2)) == 2
    for data, count, error in (
        (both, 1, FormatError),
        (both, 3, UnknownVersion),
        (both[:-1], 2, FormatError),
        (both + b"\0", 2, FormatError),
        (both, limits.RECIPIENTS + 1, FormatError),
        (b"", 1, UnknownVersion),
    ):
        with pytest.raises(error):
            stanza.parse(data, recipients=count)


def test_planning_recipients(bench):
    recipients = for_keys([bench.clinic, bench.bank], bench.cast)
    assert front.stanza_bytes(recipients) == 2 * stanza.key_stanza_bytes(
        AgreementSuite.X25519, prekey=False
    )
    with pytest.raises(FormatError, match="twice"):
        front.stanza_bytes([recipients[0]] * 2)
    with pytest.raises(FormatError, match="at least one"):
        front.stanza_bytes([])
    with pytest.raises(FormatError, match="more than"):
        front.stanza_bytes([recipients[0]] * (limits.RECIPIENTS + 1))
