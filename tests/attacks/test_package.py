"""What may be done to a sealed package, and by whom; each sentence is an attack that is made.

Every row with `without` is made twice: against counterseal, which must refuse, and against
counterseal without the one check that is said to stop it, where the attack must succeed.
The bytes are everybody's; a recipient also holds the content key; keys to sign with, one's own.
"""

import msgspec
import pytest
import rfc8785
from workshop import (
    AT,
    PASSPHRASE,
    Cut,
    Parts,
    attack,
    document,
    entry,
    flip,
    for_keys,
    leaves_of,
    manifest_of,
    manifest_plain,
    reseal_leaf,
    undefended,
    wild,
)

from counterseal.crypto.digest import LEAF_BYTES
from counterseal.crypto.signing import P256_ORDER
from counterseal.errors import (
    BadCiphertext,
    BadSignature,
    CountersealError,
    FormatError,
    UnknownVersion,
)
from counterseal.exchange import front, stanza
from counterseal.exchange.header import PACKAGE_TYPE
from counterseal.exchange.keys import ContentKey
from counterseal.wire import canonical
from counterseal.wire.dsse import Envelope, EnvelopeSignature

READER = "counterseal.exchange.reader:"
NO_LEAF_DIGEST = Cut(READER + "open_leaf", "not equal(leaf_digest(plain), digest)", "False")
NO_MANIFEST_DIGEST = Cut(
    READER + "PackageFiles._open_manifest",
    "not equal(sha256(sealed).hex().encode(), core.manifest.encode())",
    "False",
)
NO_SIGNATURE = Cut(
    READER + "Front._check_signature",
    "signed.verify(self.envelope, PACKAGE_TYPE, by=card().card.signing.key())",
)
NO_SENDER = Cut(READER + "Front._check_signature", "core.sender != sender.identity", "False")
NO_STANZA_DIGEST = Cut(
    READER + "Front._check_signature",
    "not equal(sha256(self.stanzas).hex().encode(), self.header.stanzas.encode())",
    "False",
)
NO_ZERO_FILL = Cut(
    READER + "read_front",
    r"part(lengths.end, header.body - lengths.end) != bytes(header.body - lengths.end)",
    "False",
)
NO_SIZE = Cut(READER + "read_front", "header.size != size", "False")
NO_CORE_BINDING = Cut("counterseal.exchange.header:Core.digest", "_digest(self)", "bytes(32)")
NO_KEY_COMMITMENT = Cut(
    "counterseal.exchange.keys:ContentKey.check",
    "not equal(self.commitment().encode(), commitment.encode())",
    "False",
)
NO_INDEX = Cut(
    "counterseal.exchange.keys:ContentKey.file_message", 'index.to_bytes(4, "big")', "bytes(4)"
)
ONE_HALF = Cut("counterseal.crypto.signing:VerifyKey.verify", "classical and pq", "classical or pq")
HIGH_S = Cut("counterseal.crypto.signing:_der", "s > P256_ORDER // 2", "False")
NOT_CANONICAL = Cut("counterseal.wire.canonical:decode", "again != data", "False")
UNKNOWN_SIGNER = Cut(
    "counterseal.trust.signed:signers",
    'raise BadSignature("a signature by an unknown key, or twice by the same")',
    "continue",
)
PASSPHRASE_BESIDE = Cut("counterseal.exchange.stanza:parse", "len(stanzas) > 1", "False")

WEIGHTS = bytes(range(256)) * 64  # 16 KiB: one full chunk and the empty last one
EVIL = b"EVIL" + WEIGHTS[4:]
BIG = b"".join(bytes([n]) * LEAF_BYTES for n in range(2)) + b"end"


def forged_by_recipient(bench, plain=EVIL):
    """lab seals for clinic and bank; clinic replaces the weights. Returns the parts."""
    path = bench.seal({"w.bin": WEIGHTS}, to=[bench.clinic, bench.bank])
    key = bench.key(path, bench.clinic)
    manifest, parts = manifest_of(path, key)
    parts.payload[0] = reseal_leaf(key, 0, len(WEIGHTS), parts.payload[0], leaf=0, plain=plain)
    return key, manifest, parts


def with_new_manifest(bench):
    """As above, and the manifest has the digest of the new weights, sealed again."""
    key, manifest, parts = forged_by_recipient(bench)
    size = len(manifest.encode(4096))
    plain = manifest_plain(msgspec.to_builtins(manifest.document), leaves_of(EVIL), size=size)
    parts.manifest = key.manifest_message(len(plain)).seal_whole(plain)
    length = parts.header.core.manifest_bytes
    if len(parts.manifest) != length:
        plain = manifest_plain(msgspec.to_builtins(manifest.document), leaves_of(EVIL), size=1024)
        parts.manifest = key.manifest_message(len(plain)).seal_whole(plain)
    assert len(parts.manifest) == length
    return key, parts


def bank_reads_evil(bench, path, **more):
    return lambda: bench.read(path, by=bench.bank, **more) == {"w.bin": EVIL}


@attack(BadCiphertext, NO_LEAF_DIGEST)
def changed_weight(bench):
    # CryptoTensors 0.2.3 accepts this: it signs a header of GCM tags, and who has the content
    # key finds another plaintext for a tag, or here: makes new tags that nobody signed.
    _, _, parts = forged_by_recipient(bench)
    return bank_reads_evil(bench, bench.put(parts.join()))


@attack(BadCiphertext, NO_MANIFEST_DIGEST)
def changed_manifest(bench):
    _, parts = with_new_manifest(bench)
    return bank_reads_evil(bench, bench.put(parts.join()))


@attack(BadSignature, NO_SIGNATURE)
def changed_header(bench):
    """All digests are right again, the stanzas are made anew; only lab cannot be made to sign."""
    key, parts = with_new_manifest(bench)
    core = {"sender": bench.lab.history.identity, "manifest": manifest_digest(parts)}
    new_core = msgspec.structs.replace(parts.header.core, **core)
    made = front.make_stanzas(key, new_core, for_keys([bench.clinic, bench.bank], bench.cast))
    parts.stanzas = stanza.encode(made)
    data = parts.signed(bench.clinic, core=core, header={"card": bench.lab.key_id})
    return bank_reads_evil(bench, bench.put(data))


def manifest_digest(parts):
    from counterseal.crypto.digest import sha256

    return sha256(parts.manifest).hex()


@attack(BadSignature, NO_SENDER, NO_SIGNATURE)
def own_name(bench):
    """Rival seals honestly, in its own name. Bank is told that it comes from lab."""
    path = bench.seal({"w.bin": EVIL}, by=bench.rival, to=[bench.bank])
    return bank_reads_evil(bench, path)


@attack(BadSignature, NO_SIGNATURE)
def labs_name_rivals_card(bench):
    data = wild(
        [("w.bin", EVIL)],
        by=bench.rival,
        to=bench.bank,
        cast=bench.cast,
        core={"sender": bench.lab.history.identity},
    )
    return bank_reads_evil(bench, bench.put(data))


@attack(BadCiphertext, NO_CORE_BINDING)
def anothers_stanzas(bench):
    """Unknown key share: rival, who cannot open it, passes lab's model off as its own."""
    path = bench.seal({"w.bin": WEIGHTS}, to=[bench.bank])
    parts = Parts.of(path.read_bytes())
    path = bench.put(parts.signed(bench.rival))
    return lambda: bench.read(path, by=bench.bank, sender=bench.rival) == {"w.bin": WEIGHTS}


@attack(BadCiphertext, NO_CORE_BINDING, NO_KEY_COMMITMENT)
def lifted_stanza(bench):
    """Rival's own package with the stanza of lab's: bank would use lab's key for rival's header."""
    lifted = Parts.of(bench.seal({"w.bin": WEIGHTS}, to=[bench.bank]).read_bytes())
    package = lifted.header.core.package
    data = wild(
        [("w.bin", WEIGHTS)],
        by=bench.rival,
        to=bench.bank,
        cast=bench.cast,
        core={"package": package},
        stanzas=lambda content, core: (lifted.stanzas, 1),
    )
    path = bench.put(data)

    def victim():
        from counterseal.exchange import reader

        with path.open("rb") as file:
            found = reader.read_front(file.fileno())
            found.verify(bench.rival.history, at=AT)
            return reader.unlock(found, bench.bank)[0].package == package

    return victim


@attack(BadCiphertext)
def stanza_for_another_card(bench):
    """Rival writes bank's hint over the stanza that was made for clinic."""

    def relabelled(content, core):
        made = stanza.encode(front.make_stanzas(content, core, for_keys(bench.clinic, bench.cast)))
        return made[:1] + stanza.hint(core.package, bench.bank.key_id) + made[17:], 1

    data = wild([("w", b"1")], by=bench.rival, to=None, cast=bench.cast, stanzas=relabelled)
    path = bench.put(data)
    return lambda: bench.read(path, by=bench.bank, sender=bench.rival)


@attack(BadCiphertext)
def not_for_us(bench):
    path = bench.seal({"w.bin": WEIGHTS}, to=[bench.clinic])
    return lambda: bench.read(path, by=bench.bank)


SALT_CHECK = Cut(
    "counterseal.exchange.reader:PackageFiles._message",
    "not equal(message.salt, entry.salt)",
    "False",
)


@attack(
    BadCiphertext,
    NO_INDEX,
    NO_LEAF_DIGEST,
    SALT_CHECK,
)
def swapped_files(bench):
    names = {"a.bin": WEIGHTS, "b.bin": EVIL}
    path = bench.seal(names)
    parts = Parts.of(path.read_bytes(), [len(WEIGHTS)] * 2)
    parts.payload.reverse()
    path = bench.put(parts.join())
    return lambda: bench.read(path) == {"a.bin": EVIL, "b.bin": WEIGHTS}


@attack(BadCiphertext, SALT_CHECK)
def same_bytes_sealed_anew(bench):
    """A recipient encrypts the right contents again: every tag, commitment and leaf is good."""
    path = bench.seal({"w.bin": WEIGHTS}, to=[bench.clinic, bench.bank])
    key = bench.key(path, bench.clinic)
    parts = Parts.of(path.read_bytes(), [len(WEIGHTS)])
    parts.payload = [key.file_message(0, len(WEIGHTS)).seal_whole(WEIGHTS)]
    other = bench.put(parts.join())
    return lambda: bench.read(other, by=bench.bank) == {"w.bin": WEIGHTS}


@attack(BadCiphertext)
def file_of_another_package(bench):
    old = Parts.of(bench.seal({"w.bin": EVIL}).read_bytes(), [len(EVIL)])
    new = Parts.of(bench.seal({"w.bin": WEIGHTS}).read_bytes(), [len(WEIGHTS)])
    new.payload = old.payload
    path = bench.put(new.join())
    return lambda: bench.read(path)


@attack(BadCiphertext)
def manifest_of_another_package(bench):
    """Re-signed by lab itself (an honest mistake): the key still does not fit."""
    old = Parts.of(bench.seal({"w.bin": EVIL}).read_bytes(), [len(EVIL)])
    new = Parts.of(bench.seal({"w.bin": WEIGHTS}).read_bytes(), [len(WEIGHTS)])
    new.manifest, new.payload = old.manifest, old.payload
    path = bench.put(new.signed(bench.lab))
    return lambda: bench.read(path)


@attack(BadSignature, NO_STANZA_DIGEST)
def stanza_replaced(bench):
    """Clinic throws bank out: it writes another stanza over bank's."""
    path = bench.seal({"w.bin": EVIL}, to=[bench.clinic, bench.bank])
    parts = Parts.of(path.read_bytes())
    half = len(parts.stanzas) // 2
    parts.stanzas = parts.stanzas[:half] + flip(parts.stanzas[half:], 5)
    path = bench.put(parts.join())
    return lambda: bench.read(path) == {"w.bin": EVIL}


@attack(BadCiphertext, NO_ZERO_FILL)
def something_in_the_gap(bench):
    """A relay hides a message, or makes a second package out of one."""
    parts = Parts.of(bench.seal({"w.bin": EVIL}).read_bytes())
    parts.gap = b"hidden" + parts.gap[6:]
    path = bench.put(parts.join())
    return lambda: bench.read(path) == {"w.bin": EVIL}


@attack(BadCiphertext, NO_SIZE)
def appended(bench):
    path = bench.put(bench.seal({"w.bin": EVIL}).read_bytes() + b"more")
    return lambda: bench.read(path) == {"w.bin": EVIL}


@attack(BadSignature, HIGH_S)
def high_s(bench):
    """(r, order - s) is as good an ECDSA signature as (r, s): one package would have two forms."""
    bench.cast.__init__(hardware=("lab",))
    parts = Parts.of(bench.seal({"w.bin": EVIL}).read_bytes())
    first, second = parts.envelope.signatures
    s = P256_ORDER - int.from_bytes(first.sig[32:], "big")
    other = EnvelopeSignature(keyid=first.keyid, sig=first.sig[:32] + s.to_bytes(32, "big"))
    path = bench.put(parts.join(with_signatures(parts, other, second)))
    return lambda: bench.read(path) == {"w.bin": EVIL}


def with_signatures(parts, *signatures):
    return Envelope(
        payload=parts.envelope.payload,
        payloadType=parts.envelope.payloadType,
        signatures=signatures,
    )


@attack(BadSignature)
def ed25519_plus_order(bench):
    order = 2**252 + 27742317777372353535851937790883648493
    parts = Parts.of(bench.seal({"w.bin": EVIL}).read_bytes())
    first, second = parts.envelope.signatures
    s = int.from_bytes(first.sig[32:], "little") + order
    other = EnvelopeSignature(keyid=first.keyid, sig=first.sig[:32] + s.to_bytes(32, "little"))
    path = bench.put(parts.join(with_signatures(parts, other, second)))
    return lambda: bench.read(path)


@attack(FormatError, NOT_CANONICAL)
def white_space(bench):
    parts = Parts.of(bench.seal({"w.bin": EVIL}).read_bytes())
    text = canonical.encode(parts.envelope)
    parts.gap = parts.gap[:-1]
    path = bench.put(parts.join(header_bytes=text[:-1] + b" }"))
    return lambda: bench.read(path) == {"w.bin": EVIL}


@attack(FormatError)
def unknown_field(bench):
    parts = Parts.of(bench.seal({"w.bin": EVIL}).read_bytes())
    fields = msgspec.to_builtins(parts.envelope) | {"zz": 1}
    text = rfc8785.dumps(fields)
    parts.gap = parts.gap[: len(canonical.encode(parts.envelope)) - len(text)]
    path = bench.put(parts.join(header_bytes=text))
    return lambda: bench.read(path)


@attack(BadSignature, UNKNOWN_SIGNER)
def third_signature(bench):
    """Rival signs lab's package as well, to claim later that it was theirs together."""
    parts = Parts.of(bench.seal({"w.bin": EVIL}).read_bytes())
    theirs = bench.rival.sign(parts.header, PACKAGE_TYPE, at=AT).signatures
    envelope = with_signatures(parts, *parts.envelope.signatures, *theirs)
    grown = len(canonical.encode(envelope)) - len(canonical.encode(parts.envelope))
    parts.gap = parts.gap[: len(parts.gap) - grown]
    data = parts.join(envelope)
    path = bench.put(data)
    assert len(data) == parts.header.size
    return lambda: bench.read(path) == {"w.bin": EVIL}


@attack(BadSignature)
def signatures_change_places(bench):
    parts = Parts.of(bench.seal({"w.bin": EVIL}).read_bytes())
    path = bench.put(parts.join(with_signatures(parts, *reversed(parts.envelope.signatures))))
    return lambda: bench.read(path)


def stolen_half(bench, *, classical):
    """Whoever broke one half of lab's key pair signs with it, and guesses the other."""
    data = wild([("w.bin", EVIL)], by=bench.lab, to=bench.bank, cast=bench.cast)
    parts = Parts.of(data)
    first, second = parts.envelope.signatures
    if classical:
        second = EnvelopeSignature(keyid=second.keyid, sig=bytes(len(second.sig)))
    else:
        first = EnvelopeSignature(keyid=first.keyid, sig=bytes(len(first.sig)))
    return bank_reads_evil(bench, bench.put(parts.join(with_signatures(parts, first, second))))


def signature_dropped(bench, keep):
    parts = Parts.of(bench.seal({"w.bin": EVIL}, to=[bench.bank]).read_bytes())
    kept = [parts.envelope.signatures[n] for n in keep]
    envelope = with_signatures(parts, *kept)
    parts.gap += bytes(len(canonical.encode(parts.envelope)) - len(canonical.encode(envelope)))
    return bank_reads_evil(bench, bench.put(parts.join(envelope)))


@attack(FormatError)
def all_signatures_dropped(bench):
    return signature_dropped(bench, [])


@attack(BadSignature)
def signed_as_another_document(bench):
    """A signature lab made for something else (here: as a card) over a header's bytes."""
    parts = Parts.of(bench.seal({"w.bin": EVIL}, to=[bench.bank]).read_bytes())
    other = bench.lab.sign(parts.header, "application/vnd.counterseal.card.v1+json", at=AT)
    path = bench.put(parts.join(with_signatures(parts, *other.signatures)))
    return bank_reads_evil(bench, path)


def refused_suite(name):
    def make(bench):
        data = wild(
            [("w", b"1")], by=bench.rival, to=bench.bank, cast=bench.cast, core={"suite": name}
        )
        path = bench.put(data)
        return lambda: bench.read(path, by=bench.bank, sender=bench.rival)

    return attack(FormatError)(make)


def other_magic(change, error):
    def make(bench):
        path = bench.put(change(bench.seal({"w.bin": EVIL}).read_bytes()))
        return lambda: bench.read(path)

    return attack(error)(make)


def stanza_type(number, length, error=UnknownVersion):
    def make(bench):
        def raw(content, core):
            start = bytes([number]) + stanza.hint(core.package, bench.bank.key_id)
            return start + bytes(length), 1

        data = wild([("w", b"1")], by=bench.rival, to=None, cast=bench.cast, stanzas=raw)
        path = bench.put(data)
        return lambda: bench.read(path, by=bench.bank, sender=bench.rival)

    return attack(error)(make)


@attack(FormatError, PASSPHRASE_BESIDE)
def passphrase_beside(bench):
    """The weakest of all recipients is a guessable passphrase; nobody may slip one in."""

    def both(content, core):
        made = [
            *front.make_stanzas(content, core, for_keys(PASSPHRASE, bench.cast)),
            *front.make_stanzas(content, core, for_keys(bench.bank, bench.cast)),
        ]
        return stanza.encode(made), 2

    data = wild([("w.bin", EVIL)], by=bench.rival, to=None, cast=bench.cast, stanzas=both)
    path = bench.put(data)
    return lambda: bench.read(path, passphrase=PASSPHRASE, sender=bench.rival) == {"w.bin": EVIL}


@attack(FormatError)
def one_recipient_twice(bench):
    def both(content, core):
        made = front.make_stanzas(content, core, for_keys([bench.bank, bench.bank], bench.cast))
        return stanza.encode(made), 2

    data = wild([("w", b"1")], by=bench.rival, to=None, cast=bench.cast, stanzas=both)
    path = bench.put(data)
    return lambda: bench.read(path, by=bench.bank, sender=bench.rival)


@attack(FormatError)
def sealing_for_both(bench):
    return lambda: bench.seal(
        {"w": b"1"}, passphrase=PASSPHRASE, to=[bench.cast.partner(bench.bank)]
    )


@attack(FormatError)
def sealing_for_nobody(bench):
    from counterseal.jobs.seal import seal

    source = bench.model({"w": b"1"})
    return lambda: seal(source, by=bench.lab, to=[], output=bench.path(), at=AT)


@attack(BadCiphertext)
def other_content_key(bench):
    """The signed commitment names one key; the stanza of one recipient brings another."""
    other = ContentKey.generate()

    def two(content, core):
        other.package = content.package
        made = [
            *front.make_stanzas(content, core, for_keys(bench.clinic, bench.cast)),
            *front.make_stanzas(other, core, for_keys(bench.bank, bench.cast)),
        ]
        return stanza.encode(made), 2

    data = wild([("w", b"1")], by=bench.rival, to=None, cast=bench.cast, stanzas=two)
    path = bench.put(data)
    bench.read(path, by=bench.clinic, sender=bench.rival)
    return lambda: bench.read(path, by=bench.bank, sender=bench.rival)


ATTACKS = {
    "a recipient changes a weight and encrypts the leaf again": changed_weight,
    "a recipient also writes the new digest into the manifest": changed_manifest,
    "a recipient also makes header and stanzas anew, but cannot sign": changed_header,
    "a rival's own package is not taken for the sender's": own_name,
    "a rival who writes the sender's name signs with the wrong card": labs_name_rivals_card,
    "a rival who signs for another's stanzas does not become the sender": anothers_stanzas,
    "a stanza lifted into another package does not open there": lifted_stanza,
    "a stanza relabelled for another recipient does not open": stanza_for_another_card,
    "a package for another recipient does not open": not_for_us,
    "two files of one package cannot change places": swapped_files,
    "a recipient cannot seal even the same bytes anew": same_bytes_sealed_anew,
    "a file of another package does not fit": file_of_another_package,
    "a manifest of another package does not fit, whoever signs": manifest_of_another_package,
    "a recipient cannot spoil the stanza of another unnoticed": stanza_replaced,
    "nothing can hide between stanzas and body": something_in_the_gap,
    "nothing can be appended": appended,
    "an ECDSA signature has only one form": high_s,
    "an Ed25519 signature has only one form": ed25519_plus_order,
    "white space in the header is refused": white_space,
    "an unknown field in the envelope is refused": unknown_field,
    "a signature by somebody else beside the sender's is refused": third_signature,
    "signatures cannot change places": signatures_change_places,
    "the classical half of a key alone cannot sign": attack(BadSignature, ONE_HALF)(
        lambda bench: stolen_half(bench, classical=True)
    ),
    "the post-quantum half of a key alone cannot sign": attack(BadSignature, ONE_HALF)(
        lambda bench: stolen_half(bench, classical=False)
    ),
    "the post-quantum signature cannot be dropped": attack(BadSignature)(
        lambda bench: signature_dropped(bench, [0])
    ),
    "the classical signature cannot be dropped": attack(BadSignature)(
        lambda bench: signature_dropped(bench, [1])
    ),
    "one half cannot be given twice instead of both": attack(BadSignature)(
        lambda bench: signature_dropped(bench, [0, 0])
    ),
    "no signature at all is not a signature": all_signatures_dropped,
    "a signature made for another kind of document does not count": signed_as_another_document,
    "an older suite is refused": refused_suite("counterseal-0"),
    "a suite called none is refused": refused_suite("none"),
    "an empty suite is refused": refused_suite(""),
    "format version 0 is refused": other_magic(lambda d: d[:12] + b"\0" + d[13:], UnknownVersion),
    "format version 2 is refused": other_magic(lambda d: d[:12] + b"\2" + d[13:], UnknownVersion),
    "a transfer as text is noticed": other_magic(
        lambda d: d.replace(b"\r\n", b"\n", 1), UnknownVersion
    ),
    "something else entirely is refused": other_magic(lambda d: b"PK\3\4" + d[4:], FormatError),
    "an empty file is refused": other_magic(lambda d: b"", FormatError),
    "a stanza of type 0 is refused": stanza_type(0, 1216),
    "a stanza of type 6 is refused": stanza_type(6, 1216),
    "a stanza of type 255 is refused": stanza_type(255, 1216),
    "a classical X25519 stanza does not parse": stanza_type(1, 32 + 32 + 16 + 48, FormatError),
    "a classical P-256 stanza does not parse": stanza_type(3, 65 + 32 + 16 + 48, FormatError),
    "a passphrase stanza beside a key stanza is refused": passphrase_beside,
    "two stanzas for one recipient are refused": one_recipient_twice,
    "sealing for partners and a passphrase is refused": sealing_for_both,
    "sealing for nobody is refused": sealing_for_nobody,
    "a recipient who gets another content key notices": other_content_key,
}


@pytest.mark.parametrize("sentence", ATTACKS)
def test_is_refused(sentence, bench):
    ATTACKS[sentence].is_refused(bench)


@pytest.mark.parametrize("sentence", undefended(ATTACKS))
def test_works_without_the_defence(sentence, bench, monkeypatch):
    ATTACKS[sentence].works_undefended(bench, monkeypatch)


def test_the_honest_package_opens(bench):
    """The control of everything above."""
    path = bench.seal({"w.bin": WEIGHTS}, to=[bench.clinic, bench.bank])
    for identity in (bench.clinic, bench.bank):
        assert bench.read(path, by=identity) == {"w.bin": WEIGHTS}
    wild_path = bench.put(wild([("w", b"1")], by=bench.rival, to=bench.bank, cast=bench.cast))
    assert bench.read(wild_path, by=bench.bank, sender=bench.rival) == {"w": b"1"}


@pytest.mark.parametrize("hardware", [(), ("lab", "clinic")])
def test_every_byte_of_the_front_counts(bench, hardware):
    """Header, stanzas, zeros: a single changed bit anywhere is refused before any key is used."""
    from counterseal.exchange import reader

    bench.cast.__init__(hardware=hardware)
    data = bench.seal({"w.bin": b"12"}).read_bytes()
    body = Parts.of(data).header.body
    path = bench.put(data)
    with path.open("r+b", buffering=0) as file:
        for at in range(body):
            file.seek(at)
            file.write(bytes([data[at] ^ 1 << at % 8]))
            with pytest.raises(CountersealError):
                reader.read_front(file.fileno()).verify(bench.lab.history, at=AT)
            file.seek(at)
            file.write(data[at : at + 1])
    assert bench.read(path) == {"w.bin": b"12"}


CHUNK = 16 * 1024 + 16


def chunks(message):
    """Prefix and chunks of a message."""
    return [message[:56], *(message[at : at + CHUNK] for at in range(56, len(message), CHUNK))]


MANIPULATIONS = {
    "the last chunk cut off": lambda c: c[:-1],
    "one byte cut off": lambda c: [*c[:-1], c[-1][:-1]],
    "the last full chunk cut off": lambda c: [*c[:-2], c[-1]],
    "a chunk duplicated": lambda c: [*c[:3], c[2], *c[3:]],
    "two chunks swapped": lambda c: [*c[:2], c[3], c[2], *c[4:]],
    "two leaves swapped": lambda c: [c[0], *c[65:129], *c[1:65], *c[129:]],
    "the first leaf twice": lambda c: [c[0], *c[1:65], *c[1:65], *c[129:]],
    "the last chunk first": lambda c: [c[0], c[-1], *c[1:-1]],
    "a byte appended": lambda c: [*c, b"\0"],
    "an empty last chunk appended": lambda c: [*c, c[-1][-16:]],
    "everything but the prefix cut off": lambda c: c[:1],
}


@pytest.mark.parametrize("resized", [False, True], ids=["as is", "signed length made to fit"])
@pytest.mark.parametrize("sentence", MANIPULATIONS)
def test_chunks_and_leaves(sentence, resized, bench, monkeypatch):
    """The signed length stops most; with a length that fits, the chunks themselves notice."""
    if resized:
        NO_SIZE.apply(monkeypatch)
        NO_LEAF_DIGEST.apply(monkeypatch)
    parts = Parts.of(bench.seal({"w.bin": BIG}).read_bytes(), [len(BIG)])
    parts.payload = MANIPULATIONS[sentence](chunks(parts.payload[0]))
    path = bench.put(parts.join())
    if resized and "appended" in sentence:
        # Without the signed length what follows the last chunk is simply never read.
        assert bench.read(path) == {"w.bin": BIG}
        return
    with pytest.raises((BadCiphertext, FormatError)):
        bench.read(path)


@pytest.mark.parametrize("claimed", [0, 1, len(WEIGHTS) - 1, len(WEIGHTS) + 1, 1 << 50])
def test_a_sender_cannot_lie_about_sizes(claimed, bench):
    leaves = leaves_of(WEIGHTS) if claimed else b""
    plain = manifest_plain(document([entry("w.bin", claimed)]), leaves)
    data = wild(
        [("w.bin", WEIGHTS)], by=bench.rival, to=bench.bank, cast=bench.cast, manifest=plain
    )
    with pytest.raises(CountersealError):
        bench.read(bench.put(data), by=bench.bank, sender=bench.rival)
