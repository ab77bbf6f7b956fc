"""Change packages in every way that has a name, and see that no change is accepted.

    python tests/fuzz/mutate.py --count 1000000 --seed 1 --json out.json

A mutant is accepted if it opens and every byte of it can be read: since it is not the package
that was sealed, that would be a forgery or a byte that nobody vouches for. The one making the
mutants is strong: it may hold the content key, as every recipient does (kinds `insider_...`),
and seals the very same bytes anew, too.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import random
import sys
import tempfile
import time
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import msgspec

sys.path.insert(0, str(Path(__file__).parents[1] / "support"))

from workshop import AT, CHEAP, DAY, PASSPHRASE, Bench, Cast, Parts, manifest_plain, read_all

from counterseal.errors import CountersealError
from counterseal.exchange import layout, reader
from counterseal.jobs.recipients import add_recipient
from counterseal.wire import canonical
from counterseal.wire.dsse import Envelope, EnvelopeSignature


@dataclass
class Target:
    """One package, and how its recipient opens it."""

    name: str
    data: bytes
    parts: Parts
    key: object
    sender: object
    identity: object
    document: dict
    leaves: bytes
    sizes: list


def pool(folder):
    """Every kind of package there is, none larger than 50 kB."""
    targets = []

    def add(name, bench, path, *, identity=None, passphrase=None):
        from workshop import manifest_of

        identity = identity or bench.clinic
        key = bench.key(path, identity, passphrase=passphrase)
        manifest, parts = manifest_of(path, key)
        targets.append(
            Target(
                name,
                path.read_bytes(),
                parts,
                key,
                bench.lab.history,
                None if passphrase else identity,
                msgspec.to_builtins(manifest.document),
                manifest.leaves,
                [one.bytes for one in manifest.document.files],
            )
        )

    bench = Bench(Cast(), Path(folder))
    small = random.Random(0).randbytes(1000)
    chunky = random.Random(1).randbytes(16 * 1024 + 7)
    add("one file", bench, bench.seal(small))
    add("one file, next version", bench, bench.seal(small[::-1]))
    many = {"a": b"", "b": b"1", "sub/c": small, "sub/d": small[::-1], "e": chunky}
    add("folder", bench, bench.seal(many, expires=30 * DAY, charter="charter-7"))
    add("statement", bench, bench.seal({"w.bin": small, "v.bin": small}, statement=True))
    add("prekey", bench, bench.seal(small, to=[bench.cast.with_prekeys(bench.clinic, bench.lab)]))
    everybody = [bench.clinic, bench.bank, bench.rival]
    add("three recipients", bench, bench.seal(small, to=everybody), identity=bench.bank)
    path = bench.seal(small)
    add_recipient(path, by=bench.lab, to=bench.cast.partner(bench.bank), at=AT)
    add("recipient added", bench, path, identity=bench.bank)
    add(
        "passphrase",
        bench,
        bench.seal(small, passphrase=PASSPHRASE, cost=CHEAP),
        passphrase=PASSPHRASE,
    )
    hard = Bench(Cast(hardware=("lab", "clinic")), Path(folder), count=bench.count)
    add("hardware", hard, hard.seal({"w": small, "x": chunky}))
    prekeys = hard.cast.with_prekeys(hard.clinic, hard.lab)
    add("hardware, prekey", hard, hard.seal(small, to=[prekeys]))
    return targets


class Verifier:
    """What a recipient does with a package, in memory. The key depends on nothing but the front:
    if that is unchanged it is not unwrapped again (Argon2id would take all the time).
    """

    def __init__(self):
        self._file = os.memfd_create("package")

    def accepts(self, target, data):
        """False if it is refused, else the contents."""
        os.ftruncate(self._file, len(data))
        os.pwrite(self._file, data, 0)
        try:
            front = reader.read_front(self._file)
            front.verify(target.sender, at=AT)
            body = target.parts.header.body
            if data[:body] == target.data[:body]:
                key = target.key
            elif target.identity is None:
                key = reader.unlock_passphrase(front, PASSPHRASE)
            else:
                key, _ = reader.unlock(front, target.identity)
            files = reader.PackageFiles(self._file, front, key)
            return files.manifest.document, read_all(files)
        except CountersealError:
            return False


# ── bytes ───────────────────────────────────────────────────────────────────────────────────


def place(rng, target):
    """An offset, more often near a boundary than not."""
    edges = [0, 12, 16, 20, 24, target.parts.header.body, len(target.data)]
    edges.append(24 + len(canonical.encode(target.parts.envelope)))
    edges.append(target.parts.header.body + target.parts.header.core.manifest_bytes)
    if rng.random() < 0.4:
        at = rng.choice(edges) + rng.randint(-60, 60)
    else:
        at = rng.randrange(len(target.data))
    return min(max(at, 0), len(target.data) - 1)


def bit_flip(rng, target, others):
    data = bytearray(target.data)
    data[place(rng, target)] ^= 1 << rng.randrange(8)
    return data


def byte_set(rng, target, others):
    data = bytearray(target.data)
    data[place(rng, target)] = rng.choice([0, 1, 0x20, 0x30, 0x7F, 0x80, 0xFF, rng.randrange(256)])
    return data


def run_set(rng, target, others):
    data, at = bytearray(target.data), place(rng, target)
    length = min(rng.choice([2, 4, 8, 16, 32, 56, 300]), len(data) - at)
    data[at : at + length] = rng.choice([bytes(length), b"\xff" * length, rng.randbytes(length)])
    return data


def block(rng, target):
    at = place(rng, target)
    return at, min(rng.choice([1, 16, 32, 56, 100, 1216, 16400]), len(target.data) - at)


def swap(rng, target, others):
    data, (one, length), other = bytearray(target.data), block(rng, target), place(rng, target)
    length = min(length, len(data) - other)
    first, second = data[one : one + length], data[other : other + length]
    data[one : one + length], data[other : other + length] = second, first
    return data


def delete(rng, target, others):
    at, length = block(rng, target)
    return target.data[:at] + target.data[at + length :]


def duplicate(rng, target, others):
    at, length = block(rng, target)
    return target.data[: at + length] + target.data[at:]


def insert(rng, target, others):
    at = place(rng, target)
    return target.data[:at] + rng.choice([b"\0", rng.randbytes(16)]) + target.data[at:]


def truncate(rng, target, others):
    return target.data[: place(rng, target)]


def extend(rng, target, others):
    return target.data + rng.choice([b"\0", rng.randbytes(16), target.data[-16:], target.data])


# ── structure ───────────────────────────────────────────────────────────────────────────────


def rejoin(target, *, envelope=None, text=None, stanzas=None):
    """Front anew, with the gap made to fit where it can; the body as it is."""
    text = text or canonical.encode(envelope or target.parts.envelope)
    stanzas = target.parts.stanzas if stanzas is None else stanzas
    start = layout.fixed(layout.Lengths(len(text), len(stanzas))) + text + stanzas
    gap = bytes(max(0, target.parts.header.body - len(start)))
    return start + gap + target.data[target.parts.header.body :]


VALUES = [None, 0, 1, -1, 2**53, "", "0" * 64, "f" * 64, [], {}, True, "counterseal-0", 1.5]


def edited(rng, value, other):
    """`value`, a JSON object, with one field somewhere in it changed."""
    path, at = [], value
    while isinstance(at, dict) and at:
        name = rng.choice(sorted(at))
        path.append(name)
        if not isinstance(at[name], dict) or rng.random() < 0.1:
            break
        at = at[name]
        other = other.get(name, {}) if isinstance(other, dict) else {}
    old = at[path[-1]]
    choice = rng.randrange(6)
    if choice == 0 and isinstance(other, dict):
        at[path[-1]] = other.get(path[-1], None)
    elif choice == 1:
        del at[path[-1]]
    elif choice == 2:
        at[path[-1] + "2"] = old
    elif choice == 3 and isinstance(old, int):
        at[path[-1]] = old + rng.choice([-4096, -1, 1, 4096])
    elif choice == 4 and isinstance(old, str) and old:
        where = rng.randrange(len(old))
        at[path[-1]] = old[:where] + rng.choice("0af-Z\n") + old[where + 1 :]
    else:
        at[path[-1]] = rng.choice(VALUES)
    return value


def dumps(value):
    import rfc8785

    try:
        return rfc8785.dumps(value)
    except rfc8785.CanonicalizationError:
        return json.dumps(value).encode()


def header_field(rng, target, others):
    theirs = msgspec.json.decode(rng.choice(others).parts.envelope.payload)
    header = edited(rng, msgspec.json.decode(target.parts.envelope.payload), theirs)
    old = target.parts.envelope
    return rejoin(
        target,
        envelope=Envelope(
            payload=dumps(header), payloadType=old.payloadType, signatures=old.signatures
        ),
    )


def envelope_field(rng, target, others):
    theirs = msgspec.to_builtins(rng.choice(others).parts.envelope)
    return rejoin(
        target, text=dumps(edited(rng, msgspec.to_builtins(target.parts.envelope), theirs))
    )


def reformat(rng, target, others):
    """The same JSON for many readers, but other bytes."""
    text = canonical.encode(target.parts.envelope)
    at = rng.choice([i for i, c in enumerate(text) if c in b'{},:"'])
    extra = rng.choice([b" ", b"\n", b"\t", b"\\u0022", b"/**/"])
    return rejoin(target, text=text[: at + 1] + extra + text[at + 1 :])


def signatures(rng, target, others):
    old = target.parts.envelope
    theirs = rng.choice(others).parts.envelope.signatures
    made = list(old.signatures)
    where = rng.randrange(len(made))
    choice = rng.randrange(6)
    if choice == 0:
        made.reverse()
    elif choice == 1:
        made[where] = rng.choice(theirs)
    elif choice == 2:
        made.append(made[where])
    elif choice == 3:
        del made[where]
    elif choice == 4:
        made[where] = EnvelopeSignature(keyid=rng.choice(theirs).keyid, sig=made[where].sig)
    else:
        made += theirs
    envelope = Envelope(payload=old.payload, payloadType=old.payloadType, signatures=tuple(made))
    return rejoin(target, envelope=envelope)


def stanzas(rng, target, others):
    theirs, ours = rng.choice(others).parts.stanzas, target.parts.stanzas
    half = len(ours) // max(1, target.parts.header.recipients)
    made = rng.choice(
        [
            theirs,
            ours + theirs,
            theirs + ours,
            ours[half:] + ours[:half],
            ours[half:],
            ours + ours[:half],
            bytes([rng.randrange(7)]) + ours[1:],
            ours[:17] + theirs[17:],
            b"",
        ]
    )
    return rejoin(target, stanzas=made)


def splice(rng, target, others):
    """A part of another package, or of two of them, in the place of ours."""
    other = rng.choice(others)
    a, b = target.parts.header, other.parts.header
    choice = rng.randrange(5)
    if choice == 0:
        return target.data[: a.body] + other.data[b.body :]
    if choice == 1:
        return other.data[: b.body] + target.data[a.body :]
    if choice == 2:
        sealed = other.parts.manifest[: len(target.parts.manifest)]
        return target.data[: a.body] + sealed + target.data[a.body + len(sealed) :]
    if choice == 3:
        at, length = block(rng, target)
        return target.data[:at] + other.data[at : at + length] + target.data[at + length :]
    return rejoin(target, envelope=other.parts.envelope)


# ── with the content key ────────────────────────────────────────────────────────────────────


def rebuilt(target, *, manifest=None, payload=None):
    manifest = target.parts.manifest if manifest is None else manifest
    payload = target.parts.payload if payload is None else payload
    return target.data[: target.parts.header.body] + manifest + b"".join(payload)


def insider_leaf(rng, target, others):
    """A file encrypted again with other contents: all tags and the commitment are right."""
    payload = list(target.parts.payload)
    number = rng.randrange(len(payload))
    size = target.sizes[number]
    plain = rng.randbytes(size)
    old = payload[number][: layout.PREFIX_BYTES]
    prefix = old if rng.random() < 0.7 else None
    message = target.key.file_message(number, size, prefix=prefix)
    payload[number] = message.seal_whole(plain)
    return rebuilt(target, payload=payload)


def insider_manifest(rng, target, others):
    """The manifest edited and encrypted again, with the right key, length and context."""
    other = rng.choice(others)
    document = edited(rng, json.loads(json.dumps(target.document)), other.document)
    if rng.random() < 0.5 and isinstance(document.get("files"), list) and document["files"]:
        number = rng.randrange(len(target.document["files"]))
        document = json.loads(json.dumps(target.document))
        edited(rng, document["files"][number], other.document["files"][0])
    size = layout.plain_bytes(len(target.parts.manifest))
    text = dumps(document)
    if 4 + len(text) + len(target.leaves) > size:
        size = -(-(4 + len(text) + len(target.leaves)) // 1024) * 1024
    message = target.key.manifest_message(size, prefix=target.parts.manifest[: layout.PREFIX_BYTES])
    plain = manifest_plain(text, target.leaves, size=size)
    return rebuilt(target, manifest=message.seal_whole(plain))


def insider_swap(rng, target, others):
    """Messages change places, or come from another package."""
    payload = list(target.parts.payload)
    if len(payload) > 1 and rng.random() < 0.6:
        rng.shuffle(payload)
    else:
        payload[rng.randrange(len(payload))] = rng.choice(rng.choice(others).parts.payload)
    return rebuilt(target, payload=payload)


KINDS = [
    (6, bit_flip), (3, byte_set), (3, run_set), (2, swap), (1, delete), (1, duplicate),
    (1, insert), (1, truncate), (1, extend), (4, header_field), (3, envelope_field),
    (1, reformat), (3, signatures), (3, stanzas), (3, splice),
    (3, insider_leaf), (3, insider_manifest), (1, insider_swap),
]  # fmt: skip


def campaign(count, seed, *, stop_after=None):
    """Try `count` mutants. Returns counts by kind and package, and what was not refused."""
    rng = random.Random(seed)
    weights, makers = zip(*KINDS, strict=True)
    tried, by_target, bad, begun = Counter(), Counter(), [], time.monotonic()
    verifier = Verifier()
    with tempfile.TemporaryDirectory() as folder:
        targets = pool(folder)
    # The control: as they are they open.
    assert all(verifier.accepts(target, target.data) for target in targets)
    honest = {target.data for target in targets}
    while sum(tried.values()) < count:
        if stop_after is not None and time.monotonic() - begun > stop_after:
            break
        number = rng.randrange(len(targets))
        target, others = targets[number], targets[:number] + targets[number + 1 :]
        maker = rng.choices(makers, weights)[0]
        data = bytes(maker(rng, target, others))
        if rng.random() < 0.05:  # sometimes two changes at once
            at = rng.randrange(len(data) or 1)
            data = data[:at] + bytes([rng.randrange(256)]) + data[at + 1 :]
        if data in honest:  # nothing changed, or all of another package was copied
            continue
        tried[maker.__name__] += 1
        by_target[target.name] += 1
        try:
            accepted = verifier.accepts(target, data)
        except Exception as error:  # noqa: BLE001 - anything but CountersealError is a finding
            bad.append((maker.__name__, target.name, repr(error), data.hex()))
        else:
            if accepted:
                bad.append((maker.__name__, target.name, "accepted", data.hex()))
    return {
        "count": sum(tried.values()),
        "seed": seed,
        "seconds": round(time.monotonic() - begun, 1),
        "kinds": dict(tried),
        "packages": dict(by_target),
        "bad": bad,
    }


def _part(arguments):
    return campaign(*arguments)


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--count", type=int, default=1_000_000)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    begun = time.monotonic()
    share = -(-arguments.count // arguments.processes)
    with multiprocessing.get_context("spawn").Pool(arguments.processes) as workers:
        jobs = [(share, arguments.seed * 1000 + number) for number in range(arguments.processes)]
        results = workers.map(_part, jobs)
    kinds, bad = Counter(), []
    for result in results:
        kinds.update(result["kinds"])
        bad += result["bad"]
    report = {
        "tried": sum(kinds.values()),
        "accepted": sum(one[2] == "accepted" for one in bad),
        "crashed": sum(one[2] != "accepted" for one in bad),
        "seconds": round(time.monotonic() - begun, 1),
        "seed": arguments.seed,
        "kinds": dict(sorted(kinds.items())),
        "bad": bad[:20],
    }
    text = json.dumps(report, indent=1)
    if arguments.json:
        arguments.json.write_text(text)
    print(text)
    return 1 if bad else 0


if __name__ == "__main__":
    raise SystemExit(main())
