"""Attacks by whoever can write beside the package, or change files while we work; and what is
released of a package before it is verified: nothing.
"""

import io
import os
import shutil
import threading

import pytest
from workshop import Cut, Parts, attack, flip, listed, open_descriptors, undefended

from counterseal.crypto.digest import LEAF_BYTES
from counterseal.errors import BadCiphertext, BadSignature, FormatError
from counterseal.exchange import amend, payload, whole
from counterseal.exchange.workers import Scratch
from counterseal.jobs.recipients import add_recipient

WEIGHTS = os.urandom(2 * LEAF_BYTES + 100)
CHUNK = 16 * 1024


# ── a journal beside the package ────────────────────────────────────────────────────────────


def journal(path, front):
    from counterseal.crypto.digest import sha256

    amend.journal_path(path).write_bytes(amend._MAGIC + sha256(front) + front)


def front_of(data):
    return data[: Parts.of(data).header.body].rstrip(b"\0")


def test_an_older_front_does_not_take_a_recipient_away(bench):
    """lab signed it once, but it does not fit over the longer front that stands there now."""
    path = bench.seal({"w": b"1"}, to=[bench.clinic])
    old = path.read_bytes()
    add_recipient(path, by=bench.lab, to=bench.cast.partner(bench.bank), at=bench.at)
    journal(path, front_of(old))
    for identity in (bench.clinic, bench.bank):
        assert bench.read(path, by=identity) == {"w": b"1"}


@attack(BadSignature)
def forged_journal(bench):
    """Another front for the same body, signed by rival in lab's name."""
    path = bench.seal({"w": b"1"})
    parts = Parts.of(path.read_bytes())
    sender = {"sender": bench.lab.history.identity}
    forged = parts.signed(bench.rival, core=sender, header={"card": bench.lab.key_id})
    journal(path, front_of(forged))
    return lambda: bench.read(path)


@attack(
    BadSignature,
    # As it was: the journal is applied before anybody looks at what is in it.
    Cut(
        "counterseal.exchange.amend:add_recipient",
        "before = read_front(descriptor, data=pending)",
        "_apply(package, descriptor, pending)",
    ),
    Cut(
        "counterseal.exchange.amend:add_recipient",
        "before.verify_ours(by.history, at=at)",
        "return True",
    ),
)
def forged_journal_written_by_us(bench):
    """In a folder like /tmp others may not touch our package, but may put files beside it."""
    path = bench.seal({"w": b"1"})
    good = path.read_bytes()
    parts = Parts.of(good)
    sender = {"sender": bench.lab.history.identity}
    forged = parts.signed(bench.rival, core=sender, header={"card": bench.lab.key_id})
    journal(path, front_of(forged))

    def victim():
        try:
            add_recipient(path, by=bench.lab, to=bench.cast.partner(bench.bank), at=bench.at)
        finally:
            amend.journal_path(path).unlink(missing_ok=True)
            spoiled = path.read_bytes() != good
        return spoiled

    return victim


def stale_journal(bench):
    """add_recipient was killed; the model was then sealed again to the same name."""
    path = bench.seal({"w": b"1"})
    journal(path, front_of(path.read_bytes()))
    shutil.move(bench.seal({"w": b"2"}), path)
    return path


def test_a_stale_journal_does_not_hide_a_new_package(bench):
    path = stale_journal(bench)
    assert bench.read(path) == {"w": b"2"}


def test_a_stale_journal_does_not_destroy_a_new_package(bench):
    path = stale_journal(bench)
    add_recipient(path, by=bench.lab, to=bench.cast.partner(bench.bank), at=bench.at)
    for identity in (bench.clinic, bench.bank):
        assert bench.read(path, by=identity) == {"w": b"2"}


@pytest.mark.parametrize(
    "content",
    [b"", b"x", amend._MAGIC, amend._MAGIC + bytes(32), amend._MAGIC + bytes(5000)],
    ids=["empty", "one byte", "magic", "wrong digest", "zeros"],
)
def test_a_journal_that_is_not_one_is_ignored(content, bench):
    path = bench.seal({"w": b"1"})
    amend.journal_path(path).write_bytes(content)
    assert bench.read(path) == {"w": b"1"}
    add_recipient(path, by=bench.lab, to=bench.cast.partner(bench.bank), at=bench.at)
    assert bench.read(path, by=bench.bank) == {"w": b"1"}
    assert not amend.journal_path(path).exists()


# ── files that change while they are sealed ─────────────────────────────────────────────────


def sealed_while(bench, monkeypatch, meddle, *, when):
    source = bench.model({"a.bin": WEIGHTS, "b.bin": WEIGHTS})
    plain = getattr(payload.FileSealing, when)
    once = threading.Lock()

    def work(self, *args, **kwargs):
        if once.acquire(blocking=False):
            meddle(source)
        return plain(self, *args, **kwargs)

    monkeypatch.setattr(payload.FileSealing, when, work)
    output = bench.folder / "out.sealed"
    from counterseal.jobs.seal import seal

    seal(
        source,
        by=bench.lab,
        to=bench.cast.partner(bench.clinic),
        output=output,
        at=bench.at,
        threads=1,
    )
    return output


def rewrite(source):
    """Same length, other bytes: between the pass for SHA-256 and the pass for the leaves."""
    path = source / "a.bin"
    data = flip(path.read_bytes(), 1_500_000)
    path.write_bytes(data)
    os.utime(path, ns=(1, 1))


def shorten(source):
    os.truncate(source / "b.bin", 10)


def grow(source):
    with (source / "a.bin").open("ab") as file:
        file.write(b"more")


def link_in(source):
    """Something secret is put in the place of a file that was listed."""
    secret = source.parent / "secret"
    secret.write_bytes(bytes(len(WEIGHTS)))
    (source / "b.bin").unlink()
    (source / "b.bin").symlink_to(secret)


CHANGES = {
    "a file rewritten after it was hashed": (rewrite, "_seal", FormatError),
    "a file that becomes shorter": (shorten, "_seal", FormatError),
    "a file that grows": (grow, "_seal", FormatError),
    "a link put in the place of a file": (link_in, "_hash", OSError),
    "a file that vanishes": (lambda source: (source / "b.bin").unlink(), "_hash", OSError),
}


@pytest.mark.parametrize("sentence", CHANGES)
def test_a_change_while_sealing_is_noticed(sentence, bench, monkeypatch):
    meddle, when, error = CHANGES[sentence]
    before = open_descriptors()
    with pytest.raises(error):
        sealed_while(bench, monkeypatch, meddle, when=when)
    assert not [p.name for p in bench.folder.iterdir() if "out.sealed" in p.name]
    assert open_descriptors() == before


def test_the_package_may_change_after_it_was_opened(bench):
    """What is read later is verified later: a leaf is what was signed, or an error."""
    path = bench.seal({"w": WEIGHTS})
    with bench.open(path) as package:
        with path.open("r+b") as file:
            file.seek(-50, os.SEEK_END)
            file.write(b"!")
        assert package.read("w", 0, 5) == WEIGHTS[:5]
        with pytest.raises(BadCiphertext):
            package.read("w", 2 * LEAF_BYTES, 10)
        package.close(used=False)


# ── nothing is released before it is verified ───────────────────────────────────────────────


def damaged(bench, *, leaf, chunk=3, signed=False):
    """A package of three leaves with one bad chunk. `signed`: tags right, digest wrong."""
    path = bench.seal(WEIGHTS)
    key = bench.key(path, bench.clinic)
    parts = Parts.of(path.read_bytes(), [len(WEIGHTS)])
    message = parts.payload[0]
    if signed:
        from workshop import reseal_leaf

        plain = flip(WEIGHTS[leaf * LEAF_BYTES :][:LEAF_BYTES], 0)
        parts.payload[0] = reseal_leaf(key, 0, len(WEIGHTS), message, leaf=leaf, plain=plain)
    else:
        at = 56 + leaf * 64 * (CHUNK + 16) + chunk * (CHUNK + 16) + 5
        parts.payload[0] = flip(message, at)
    return bench.put(parts.join())


@pytest.mark.parametrize("signed", [False, True], ids=["bad tag", "bad digest"])
def test_the_buffer_is_wiped(signed, bench):
    path = damaged(bench, leaf=1, signed=signed)
    with bench.open(path) as package:
        package.close = lambda used=True: None
        files, scratch = package.files, Scratch()
        tasks = list(files.leaf_tasks(files.names()[0], lambda *_: None))
        tasks[0](scratch)
        assert bytes(scratch.plain) == WEIGHTS[:LEAF_BYTES]
        with pytest.raises(BadCiphertext):
            tasks[1](scratch)
        assert bytes(scratch.plain) == bytes(LEAF_BYTES)
        target = bytearray(b"\xaa" * len(WEIGHTS))
        with pytest.raises(BadCiphertext):
            files.read_into(files.names()[0], 0, memoryview(target))
        assert bytes(target[LEAF_BYTES : 2 * LEAF_BYTES]) == bytes(LEAF_BYTES)
        package._on_close()


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("signed", [False, True], ids=["bad tag", "bad digest"])
@pytest.mark.parametrize("leaf", [0, 1])
def test_extract_leaves_nothing(leaf, signed, threads, bench):
    path = damaged(bench, leaf=leaf, signed=signed)
    folder = bench.folder / "target"
    folder.mkdir()
    with pytest.raises(BadCiphertext), bench.open(path) as package:
        package.extract(folder / "w.bin", threads=threads)
    assert listed(folder) == []


def test_extract_of_a_folder_leaves_nothing(bench):
    path = bench.seal({"a/w": WEIGHTS, "b": b"1"})
    path = bench.put(flip(path.read_bytes(), -20))  # in the last file
    folder = bench.folder / "target"
    folder.mkdir()
    before = open_descriptors()
    with pytest.raises(BadCiphertext), bench.open(path) as package:
        package.extract(folder / "out")
    assert listed(folder) == []
    assert open_descriptors() == before


@pytest.mark.parametrize("leaf", [0, 1, 2])
def test_a_stream_ends_before_the_bad_leaf(leaf, bench):
    path, stream = damaged(bench, leaf=leaf, chunk=0), io.BytesIO()
    package = bench.open(path)
    package._inspected = True  # it reads the beginning, which would end it at once
    with pytest.raises(BadCiphertext), package:
        package.write_to(stream)
    assert stream.getvalue() == WEIGHTS[: leaf * LEAF_BYTES]


def test_nothing_is_used_up_by_a_bad_package(bench):
    partner = bench.cast.with_prekeys(bench.clinic, bench.lab, 1)
    path = bench.seal({"w": b"12345"}, to=[partner])
    bad = bench.put(flip(path.read_bytes(), -5))
    with pytest.raises(BadCiphertext), bench.open(bad) as package:
        package.read("w")
    assert bench.read(path) == {"w": b"12345"}


def test_a_failing_extraction_keeps_the_old_file(bench):
    target = bench.folder / "w.bin"
    target.write_bytes(b"old")
    with pytest.raises(BadCiphertext), bench.open(damaged(bench, leaf=1)) as package:
        package.extract(target, replace=True)
    assert target.read_bytes() == b"old"


ATTACKS = {
    "a forged journal is refused": forged_journal,
    "a forged journal is not written into our package": forged_journal_written_by_us,
}


@pytest.mark.parametrize("sentence", ATTACKS)
def test_is_refused(sentence, bench):
    ATTACKS[sentence].is_refused(bench)


@pytest.mark.parametrize("sentence", undefended(ATTACKS))
def test_works_without_the_defence(sentence, bench, monkeypatch):
    ATTACKS[sentence].works_undefended(bench, monkeypatch)


def test_the_sweep_follows_no_links(bench):
    """A planted link with the name of an abandoned part leads nowhere."""
    victim = bench.folder / "precious"
    victim.write_bytes(b"keep")
    planted = bench.folder / f".out.{'a' * 12}.part"
    planted.symlink_to(victim)
    with whole.whole_file(bench.folder / "out") as descriptor:
        os.write(descriptor, b"x")
    assert victim.read_bytes() == b"keep"
    assert planted.is_symlink()
