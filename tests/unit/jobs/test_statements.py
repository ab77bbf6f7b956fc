import pytest
from workshop import AT

from counterseal.jobs import statements
from counterseal.models import statement as texts
from counterseal.trust.partner import PartnerBook

FILES = {"w.bin": b"weights", "sub/c.json": b"{}"}


def opened_folder(bench, **more):
    path, folder = bench.seal(FILES, statement=True, **more), bench.path()
    with bench.open(path) as package:
        package.extract(folder)
    return folder


def test_the_placeholder_is_long_enough(bench):
    """P-256 signatures in DER have 70 to 72 bytes: whatever comes, it fits."""
    for _ in range(20):
        bench.seal(FILES, statement=True)
    maker = statements.make(by=bench.lab, model="m", layout="file", at=AT)
    from counterseal.models.manifest import FileEntry

    entry = [FileEntry(name="w", media_type="a/b", bytes=1, salt=bytes(24), sha256="0" * 64)]
    for _ in range(20):
        assert len(maker.make(entry, "1" * 64)) <= len(maker.placeholder(entry))


def test_our_own_is_made_anew(bench):
    folder = opened_folder(bench)
    text = (folder / "model.sig").read_text()
    assert statements.carry(text, layout="folder", by=bench.lab) is None
    (folder / "w.bin").write_bytes(b"better weights")
    again = bench.seal(folder, statement=True)
    assert bench.read(again)["w.bin"] == b"better weights"


def test_anothers_travels_on(bench):
    bench.cast.introduce(bench.lab, to=bench.clinic)
    bench.cast.introduce(bench.lab, bench.clinic, to=bench.bank)
    folder = opened_folder(bench)
    text = (folder / "model.sig").read_text()
    path = bench.seal(folder, by=bench.clinic, to=[bench.bank], statement=True)
    with bench.open(path, by=bench.bank, sender=bench.clinic) as package:
        assert package.owner.name == "lab"
        assert package.manifest.statement == text
        assert "model.sig" not in package.names()


def test_without_a_statement_it_is_a_file_like_any_other(bench):
    folder = opened_folder(bench)
    path = bench.seal(folder, by=bench.clinic, to=[bench.bank], statement=False)
    with bench.open(path, by=bench.bank, sender=bench.clinic) as package:
        assert not package.owner.verified
        assert "model.sig" in package.names()


def test_an_owner_is_called_as_we_call_it(bench):
    from counterseal.trust.partner import Partner

    book = PartnerBook(bench.bank.store)
    for one in (bench.lab, bench.clinic):
        book.add(Partner.pin(one.card(), key_id=one.key_id, name=f"our-{one.name}", at=AT))
    bench.cast.introduce(bench.lab, to=bench.clinic)
    path = bench.seal(opened_folder(bench), by=bench.clinic, to=[bench.bank], statement=True)
    with bench.open(path, by=bench.bank, sender=book.get("our-clinic")) as package:
        assert package.sender == "our-clinic"
        assert package.owner.name == "our-lab"


@pytest.mark.parametrize("hardware", [(), ("lab",)])
def test_every_suite_signs_it(bench, hardware):
    bench.cast.__init__(hardware=hardware)
    with bench.open(bench.seal(FILES, statement=True)) as package:
        assert package.owner.verified
        parsed = texts.parse(package.manifest.statement)
        assert len(parsed.envelope.signatures) == 2
