"""The document that a directory travels in."""

from __future__ import annotations

import subprocess
import sys

import pytest

from counterseal.errors import FormatError
from counterseal.trust.directory.bundle import Contact, DirectoryBundle, root_name
from counterseal.trust.directory.known import Known
from counterseal.wire import limits


@pytest.mark.parametrize(
    "name", ["", "../card.json", "a/b", "Card.json", ".hidden", "x" * 33, "a b", "card.json\n"]
)
def test_names_are_harmless(name):
    with pytest.raises(FormatError):
        DirectoryBundle.parse(DirectoryBundle.of({name: b""}).encode())


def test_there_is_at_least_one_file_and_not_too_many():
    for count in (0, limits.DIRECTORY_FILES + 1):
        files = {f"{n}.json": b"" for n in range(count)}
        with pytest.raises(FormatError):
            DirectoryBundle.parse(DirectoryBundle.of(files).encode())


def test_it_has_a_limit():
    with pytest.raises(FormatError, match="too long"):
        DirectoryBundle.of({"card.json": bytes(limits.DIRECTORY_BYTES)}).encode()
    with pytest.raises(FormatError, match="longer than"):
        DirectoryBundle.parse(b" " * (limits.DIRECTORY_BYTES + 1))


def test_a_missing_file_is_named():
    with pytest.raises(FormatError, match=r"no card\.json"):
        DirectoryBundle.of({"a": b""}).file("card.json")


def test_roots_by_number():
    files = {root_name(n): str(n).encode() for n in (10, 9, 1)}
    bundle = DirectoryBundle.of(
        {**files, "0.root.json": b"", "01.root.json": b"", "root.json": b""}
    )
    assert bundle.roots() == {1: b"1", 9: b"9", 10: b"10"}
    many = {root_name(n + 1): b"" for n in range(limits.DIRECTORY_ROOTS + 1)}
    with pytest.raises(FormatError, match="too many roots"):
        DirectoryBundle.of(many).roots()


@pytest.mark.parametrize(
    "urls", [(), ("a b",), ("https://x\n",), ("x" * 1025,), ("https://x",) * 9, ("",)]
)
def test_addresses_are_printable_and_few(urls):
    import rfc8785

    with pytest.raises(FormatError):
        Contact.parse(rfc8785.dumps({"kind": "contact", "format": 1, "urls": list(urls)}))


def test_what_is_known_comes_back():
    from workshop import AT

    known = Known(
        kind="known-directory",
        format=1,
        card="0" * 64,
        root=b"{}",
        timestamp=2**53 - 1,
        timestamp_digest="1" * 64,
        snapshot=1,
        targets=1,
        fresh_until=AT,
    )
    assert Known.parse(known.encode()) == known


def test_tuf_is_imported_by_those_who_need_it_only():
    program = (
        "import sys\n"
        "import counterseal.trust.partner, counterseal.trust.directory.bundle\n"
        "import counterseal.trust.directory.supply, counterseal.trust.directory.online\n"
        "assert not {'tuf', 'securesystemslib'} & set(sys.modules)\n"
        "import counterseal.trust.directory.reader\n"
        "assert 'tuf' in sys.modules and 'urllib3' not in sys.modules\n"
    )
    subprocess.run([sys.executable, "-c", program], check=True)
