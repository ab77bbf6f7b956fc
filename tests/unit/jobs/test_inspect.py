import pytest
from workshop import AT, CHEAP, DAY, PASSPHRASE, flip

from counterseal.errors import CountersealError, FormatError
from counterseal.jobs.inspect import CardFacts, PackageFacts, inspect


def test_a_package_without_any_key(bench):
    partner = bench.cast.with_prekeys(bench.bank, bench.lab)
    path = bench.seal({"w": b"1"}, to=[bench.clinic, partner], expires=DAY, charter="c-7")
    facts = inspect(path, at=AT)
    assert isinstance(facts, PackageFacts)
    assert facts.sender == bench.lab.history.identity
    assert facts.sender_card == bench.lab.key_id
    assert (facts.recipients, facts.forward_secret) == (2, 1)
    assert facts.kinds == ("x25519+mlkem768",)
    assert (facts.charter, facts.expires) == ("c-7", AT + DAY)
    assert facts.size == path.stat().st_size
    assert not facts.trusted
    assert "not checked" in facts.signature


def test_with_a_pinned_card_the_signature_is_checked(bench):
    partners = [bench.cast.partner(one) for one in (bench.rival, bench.lab)]
    path = bench.seal({"w": b"1"}, expires=DAY)
    assert inspect(path, partners=partners, at=AT).signature == "good (lab)"
    late = inspect(path, partners=partners, at=AT + 2 * DAY)
    assert not late.trusted
    assert "refused" in late.signature


def test_a_passphrase_package(bench):
    facts = inspect(bench.seal(b"1", passphrase=PASSPHRASE, cost=CHEAP), at=AT)
    assert facts.kinds == ("passphrase (Argon2id)",)
    assert facts.forward_secret == 0


def test_a_card(bench):
    path = bench.folder / "lab.card"
    bench.lab.card().save(path)
    facts = inspect(path, at=AT)
    assert isinstance(facts, CardFacts)
    assert (facts.name, facts.key_id, facts.serial) == ("lab", bench.lab.key_id, 1)
    assert not facts.revoked
    bench.lab.revoke(reason="lost", at=AT)
    bench.lab.card().save(path)
    assert inspect(path, at=AT).revoked


@pytest.mark.parametrize("data", [b"", b"PK\3\4", b"{}", b"{" * 10_000, b"\x89counterseal\1"])
def test_anything_else(bench, data):
    with pytest.raises(FormatError):
        inspect(bench.put(data), at=AT)


def test_a_broken_package(bench):
    data = bench.seal(b"1").read_bytes()
    for broken in (data[:-1], data + b"\0", flip(data, 30)):
        with pytest.raises(CountersealError):
            inspect(bench.put(broken), at=AT)
