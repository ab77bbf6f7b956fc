import pytest

from counterseal.errors import BadCiphertext
from counterseal.exchange.keys import ContentKey

PACKAGE = "0123456789abcdef" * 2


def test_two_are_never_alike():
    one, two = ContentKey.generate(), ContentKey.generate()
    assert one.secret() != two.secret()
    assert one.package != two.package
    assert len(one.secret()) == 32
    assert len(bytes.fromhex(one.package)) == 16


def test_the_commitment_names_key_and_package():
    key = ContentKey(bytes(32), PACKAGE)
    key.check(key.commitment())
    for other in (ContentKey(b"\1" + bytes(31), PACKAGE), ContentKey(bytes(32), "f" * 32)):
        with pytest.raises(BadCiphertext):
            other.check(key.commitment())


def test_every_message_has_a_key_of_its_own():
    key = ContentKey(bytes(32), PACKAGE)
    sealed = key.file_message(0, 5).seal_whole(b"12345")
    assert key.file_message(0, 5, prefix=sealed[:56]).open_whole(sealed) == b"12345"
    for open_it in (
        lambda: key.file_message(1, 5, prefix=sealed[:56]),
        lambda: key.manifest_message(5, prefix=sealed[:56]),
        lambda: ContentKey(bytes(32), "f" * 32).file_message(0, 5, prefix=sealed[:56]),
    ):
        with pytest.raises(BadCiphertext):
            open_it()


def test_the_standards_own_reader_reads_it():
    """`cryptography.cobblestone`, with nothing but the derived key and the context (SPEC 3.4)."""
    cobblestone = pytest.importorskip("cryptography.cobblestone")
    from counterseal.crypto.derive import bind, derive

    key, data = ContentKey(bytes(32), PACKAGE), bytes(range(256)) * 200
    package, number = bytes.fromhex(PACKAGE), (3).to_bytes(4, "big")
    sealed = key.file_message(3, len(data)).seal_whole(data)
    names = [name for name in dir(cobblestone) if name.endswith("256Decryptor")]
    if not names:
        pytest.skip("the class has another name here")
    decryptor = getattr(cobblestone, names[0])(
        derive(bytes(32), "file", package, number), bind("file", package, number)
    )
    assert decryptor.update(sealed) + decryptor.finalize() == data


def test_it_does_not_show_itself():
    assert bytes(32).hex() not in repr(ContentKey(bytes(32), PACKAGE))
