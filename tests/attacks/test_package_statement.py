"""The owner's statement travels with the model; whoever seals it on must not be able to bend it.

lab owns the model and sealed it for clinic; clinic seals it on for bank, who has pinned both.
"""

import json

import pytest
from workshop import (
    AT,
    Cut,
    attack,
    document,
    entry,
    leaves_of,
    manifest_of,
    manifest_plain,
    undefended,
    wild,
)

from counterseal.crypto.digest import sha256
from counterseal.errors import BadSignature, FormatError, RevokedKey
from counterseal.jobs.statements import Ownership
from counterseal.models import statement as statements
from counterseal.trust.partner import PartnerBook

WEIGHTS, EVIL = b"good weights", b"evil weights"
CHECK = "counterseal.models.statement:Statement.check"


def known(bench):
    bench.cast.introduce(bench.lab, bench.clinic, to=bench.bank)
    bench.cast.introduce(bench.lab, to=bench.clinic)


def labs_statement(bench, files=None):
    """What clinic finds in lab's package: owner and text."""
    path = bench.seal(files or {"w.bin": WEIGHTS}, statement=True)
    found, _ = manifest_of(path, bench.key(path, bench.clinic))
    return {
        "identity": bench.lab.history.identity,
        "card": bench.lab.key_id,
    }, found.document.statement


def passed_on(bench, owner, text, data=EVIL, *, digest=None):
    """clinic's package for bank, with `data` under a statement that it did not make."""
    listed = entry("w.bin", len(data), digest=digest or sha256(data).hex())
    plain = manifest_plain(document([listed], owner=owner, statement=text), leaves_of(data))
    raw = wild([("w.bin", data)], by=bench.clinic, to=bench.bank, cast=bench.cast, manifest=plain)
    return bench.put(raw)


def owner_seen(bench, path):
    with bench.open(path, by=bench.bank, sender=bench.clinic) as package:
        return package.owner


@attack(
    BadSignature,
    Cut(CHECK, "self.digests != listed", "False"),
    Cut(CHECK, "self.content is not None and self.content != content", "False"),
)
def other_contents(bench):
    known(bench)
    path = passed_on(bench, *labs_statement(bench))
    return lambda: owner_seen(bench, path).name == "lab"


@attack(BadSignature, Cut(CHECK, "self.content is not None and self.content != content", "False"))
def other_contents_same_digests(bench):
    """The SHA-256 in the manifest are clinic's claim: lab's are copied over evil weights."""
    known(bench)
    path = passed_on(bench, *labs_statement(bench), digest=sha256(WEIGHTS).hex())
    return lambda: owner_seen(bench, path).name == "lab"


def rewritten(text, change):
    bundle = json.loads(text)
    change(bundle)
    return json.dumps(bundle)


@attack(
    BadSignature,
    Cut(
        "counterseal.jobs.statements:_check_signatures",
        "signed.verify(parsed.envelope, statements.PAYLOAD_TYPE, by=dated.card.signing.key())",
    ),
)
def only_p256(bench):
    """A quantum computer forges P-256; the hybrid signature beside it cannot be left out."""
    known(bench)
    owner, text = labs_statement(bench)

    def strip(bundle):
        del bundle["dsseEnvelope"]["signatures"][1:]

    path = passed_on(bench, owner, rewritten(text, strip), WEIGHTS)
    return lambda: owner_seen(bench, path).name == "lab"


@attack(
    BadSignature,
    Cut(
        "counterseal.jobs.statements:_check_signatures",
        "p256.verify(dated.card.statement, statements.message(parsed.payload), parsed.p256)",
    ),
)
def only_hybrid(bench):
    """Or other people's tools would read a statement that lab did not make for them."""
    known(bench)
    owner, text = labs_statement(bench)

    def spoil(bundle):
        first = bundle["dsseEnvelope"]["signatures"][0]
        first["sig"] = first["sig"][:20] + "AAAA" + first["sig"][24:]

    path = passed_on(bench, owner, rewritten(text, spoil), WEIGHTS)
    return lambda: owner_seen(bench, path).name == "lab"


@attack(BadSignature)
def own_statement_in_anothers_name(bench):
    known(bench)
    path = bench.seal({"w.bin": EVIL}, by=bench.clinic, to=[bench.bank], statement=True)
    found, _ = manifest_of(path, bench.key(path, bench.bank))
    lab = {"identity": bench.lab.history.identity, "card": bench.lab.key_id}
    path = passed_on(bench, lab, found.document.statement)
    return lambda: owner_seen(bench, path)


@attack(
    RevokedKey,
    Cut("counterseal.trust.history:History.unrevoked", "dated.revoked is not None", "False"),
)
def revoked_owner(bench):
    """Whoever stole lab's key makes statements with it; lab has revoked it since."""
    known(bench)
    owner, text = labs_statement(bench)
    path = passed_on(bench, owner, text, WEIGHTS)
    bench.lab.revoke(reason="compromised", at=AT)
    PartnerBook(bench.bank.store).refresh("lab", bench.lab.card())
    return lambda: owner_seen(bench, path).name == "lab"


@attack(RevokedKey)
def carried_for_a_revoked_owner(bench):
    """clinic would send along what nobody can open."""
    known(bench)
    folder = extracted(bench)
    bench.lab.revoke(reason="compromised", at=AT)
    PartnerBook(bench.clinic.store).refresh("lab", bench.lab.card())
    return lambda: seal_on(bench, folder)


def extracted(bench):
    path, folder = bench.seal({"w.bin": WEIGHTS}, statement=True), bench.path()
    with bench.open(path) as package:
        package.extract(folder)
    return folder


def seal_on(bench, source):
    return bench.seal(source, by=bench.clinic, to=[bench.bank], statement=True)


@attack(BadSignature)
def changed_after_extraction(bench):
    known(bench)
    folder = extracted(bench)
    (folder / "w.bin").write_bytes(EVIL)
    return lambda: seal_on(bench, folder)


@attack(BadSignature)
def file_added_after_extraction(bench):
    known(bench)
    folder = extracted(bench)
    (folder / "more.bin").write_bytes(EVIL)
    return lambda: seal_on(bench, folder)


@attack(FormatError)
def statement_of_a_stranger(bench):
    folder = extracted(bench)  # clinic has pinned nobody
    return lambda: seal_on(bench, folder)


@attack(BadSignature)
def card_the_owner_does_not_have(bench):
    known(bench)
    owner, text = labs_statement(bench)
    path = passed_on(bench, owner | {"card": bench.rival.key_id}, text, WEIGHTS)
    return lambda: owner_seen(bench, path)


def garbage(text):
    def make(bench):
        known(bench)
        owner = {"identity": bench.lab.history.identity, "card": bench.lab.key_id}
        path = passed_on(bench, owner, text)
        return lambda: owner_seen(bench, path)

    return attack(FormatError)(make)


ATTACKS = {
    "other contents under the owner's statement": other_contents,
    "other contents with the owner's SHA-256 copied": other_contents_same_digests,
    "a statement with a P-256 signature only": only_p256,
    "a statement without a good P-256 signature": only_hybrid,
    "one's own statement in the owner's name": own_statement_in_anothers_name,
    "a statement by a revoked key": revoked_owner,
    "a statement by a revoked key is not passed on": carried_for_a_revoked_owner,
    "a file changed since the owner's statement is not passed on": changed_after_extraction,
    "a file added since the owner's statement is not passed on": file_added_after_extraction,
    "a statement of nobody we know is not passed on": statement_of_a_stranger,
    "a statement of a card that the owner does not have": card_the_owner_does_not_have,
    "an empty statement": garbage(""),
    "a statement that is not JSON": garbage("model"),
    "a statement of nothing": garbage("{}"),
    "a statement nested too deep": garbage("[" * 100_000),
}


@pytest.mark.parametrize("sentence", ATTACKS)
def test_is_refused(sentence, bench):
    ATTACKS[sentence].is_refused(bench)


@pytest.mark.parametrize("sentence", undefended(ATTACKS))
def test_works_without_the_defence(sentence, bench, monkeypatch):
    ATTACKS[sentence].works_undefended(bench, monkeypatch)


def test_the_owner_is_known_through_two_hands(bench):
    known(bench)
    path = seal_on(bench, extracted(bench))
    assert owner_seen(bench, path) == Ownership(bench.lab.history.identity, "lab")


def test_an_owner_who_is_not_pinned_is_not_verified(bench):
    bench.cast.introduce(bench.lab, to=bench.clinic)
    path = seal_on(bench, extracted(bench))
    assert owner_seen(bench, path) == Ownership(bench.lab.history.identity, None)
    assert not owner_seen_again(bench, path).verified


def owner_seen_again(bench, path):
    with bench.open(path, by=bench.bank, sender=bench.clinic, again=True) as package:
        return package.owner


def test_a_statement_of_another_tool_proves_nothing_yet(bench):
    """It does not name our leaves: nobody is reported as the owner."""
    known(bench)
    owner, text = labs_statement(bench)

    def without_content(bundle):
        payload = json.loads(statements.parse(text).payload)
        del payload["predicate"]["counterseal"]
        import base64

        bundle["dsseEnvelope"]["payload"] = base64.b64encode(json.dumps(payload).encode()).decode()

    path = passed_on(bench, owner, rewritten(text, without_content))
    assert owner_seen(bench, path) == Ownership(None, None)
