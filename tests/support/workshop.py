"""What the tests of sealed packages share: a cast of identities, a fixed clock and the tools of
an attacker, who can take a package apart, change any part and put it together again.

Nothing in here is used by counterseal. What an attacker may use is limited by what a row says
it holds: the bytes (everybody), the content key (a recipient), signing keys (its own only).
"""

from __future__ import annotations

import base64
import contextlib
import importlib
import inspect
import os
import textwrap
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from unittest import mock

import msgspec

from counterseal.crypto.chunked import sealed_bytes
from counterseal.crypto.digest import LEAF_BYTES, leaf_digest, sha256
from counterseal.crypto.passphrase import Cost
from counterseal.exchange import front as fronts
from counterseal.exchange import header as headers
from counterseal.exchange import layout, reader, stanza
from counterseal.exchange.header import PACKAGE_TYPE, Core, Header
from counterseal.exchange.keys import ContentKey
from counterseal.exchange.plan import ForKeys, ForPassphrase
from counterseal.exchange.workers import Scratch
from counterseal.jobs.open import open_sealed
from counterseal.jobs.seal import seal
from counterseal.models.manifest import Manifest
from counterseal.trust.identity import Identity
from counterseal.trust.partner import Partner, PartnerBook
from counterseal.wire import canonical
from counterseal.wire.dsse import Envelope  # noqa: TC001 - of a dataclass

AT = datetime(2026, 6, 1, 12, tzinfo=UTC)
DAY = timedelta(days=1)
CHEAP = Cost(memory_kib=19 * 1024, passes=2, lanes=1)  # the cheapest that is accepted: 25 ms
PASSPHRASE = b"correct horse battery staple"


class Cast:
    """Everybody, with everybody's card pinned by everybody."""

    def __init__(self, *, hardware=(), at=AT):
        self.at = at
        for name in ("lab", "clinic", "bank", "rival"):
            setattr(self, name, Identity.create(name, hardware=name in hardware, at=at - DAY))

    def partner(self, identity, *, at=None):
        return Partner.pin(identity.card(), key_id=identity.key_id, at=at or self.at)

    def with_prekeys(self, recipient, sender, count=2):
        bundle = recipient.make_prekeys(sender.history, count, at=self.at)
        return self.partner(recipient).with_prekeys(bundle, us=sender.history, at=self.at)

    def introduce(self, *others, to):
        book = PartnerBook(to.store)
        for other in others:
            if book.by_identity(other.history.identity) is None:
                book.add(self.partner(other))


@dataclass
class Bench:
    """A cast in a folder."""

    cast: Cast
    folder: Path
    at: datetime = AT
    count: int = field(default=0)

    def __getattr__(self, name):  # bench.lab
        if name.startswith("_") or name == "cast":
            raise AttributeError(name)
        return getattr(self.cast, name)

    def path(self, suffix=""):
        self.count += 1
        return self.folder / f"{self.count}{suffix}"

    def put(self, data):
        """Bytes as a new package file."""
        path = self.path(".sealed")
        path.write_bytes(data)
        return path

    def model(self, files):
        """A folder, or one file if `files` is bytes."""
        path = self.path()
        if isinstance(files, bytes):
            path = path.with_name(path.name + ".bin")
            path.write_bytes(files)
            return path
        for name, data in files.items():
            (path / name).parent.mkdir(parents=True, exist_ok=True)
            (path / name).write_bytes(data)
        return path

    def seal(self, files, *, by=None, to=None, model="scan", statement=False, **more):
        """Seal honestly; returns the path of the package."""
        output = self.path(".sealed")
        by = by or self.cast.lab
        if to or "passphrase" not in more:
            more["to"] = [
                self.cast.partner(one) if isinstance(one, Identity) else one
                for one in (to or [self.cast.clinic])
            ]
        source = self.model(files) if isinstance(files, bytes | dict) else files
        more.setdefault("at", self.at)
        seal(source, by=by, output=output, model=model, statement=statement, **more)
        return output

    def open(self, path, *, by=None, sender=None, **more):
        """Open as a user would."""
        if "passphrase" not in more:
            more["by"] = by or self.cast.clinic
        sender = sender or self.cast.lab
        if isinstance(sender, Identity):
            sender = self.cast.partner(sender, at=more.get("pinned_at"))
        more.pop("pinned_at", None)
        more.setdefault("at", self.at)
        return open_sealed(path, sender=sender, **more)

    def read(self, path, *, remember=False, **more):
        """Open, verify every byte and return the files; afterwards nobody remembers it."""
        by = more.get("by") or self.cast.clinic
        try:
            with self.open(path, **more) as package:
                return read_all(package.files)
        finally:
            if not remember:
                forget(by.store)

    def key(self, path, by, *, passphrase=None):
        """The content key, as any recipient can have it."""
        with opened(path) as descriptor:
            found = reader.read_front(descriptor)
            if passphrase is not None:
                return reader.unlock_passphrase(found, passphrase)
            return reader.unlock(found, by)[0]


def forget(store):
    """Everything that was remembered of packages opened; prekeys and partners stay."""
    for kind in ("seen", "opened"):
        for key, _ in store.items(kind):
            store.delete(kind, key)


def read_all(files):
    """Every byte of every file, and every tag of every message."""
    found, scratch = {}, Scratch()
    for name in files.names():
        data = bytearray(files.size(name))

        def keep(start, part, data=data):
            data[start : start + len(part)] = part

        for task in files.leaf_tasks(name, keep):
            task(scratch)
        found[name] = bytes(data)
    return found


@contextlib.contextmanager
def opened(path):
    descriptor = os.open(path, os.O_RDONLY)
    try:
        yield descriptor
    finally:
        os.close(descriptor)


@dataclass
class Parts:
    """A package taken apart. `payload` holds the sealed message of each file."""

    envelope: Envelope
    header: Header
    stanzas: bytes
    gap: bytes
    manifest: bytes
    payload: list

    @classmethod
    def of(cls, data, sizes=None):
        """`sizes`, known to recipients only, splits the payload; else it is one piece."""
        lengths = layout.parse_fixed(data)
        envelope, header = headers.parse(data[layout.FIXED_BYTES :][: lengths.header])
        stanzas = data[layout.FIXED_BYTES + lengths.header : lengths.end]
        at = header.body + header.core.manifest_bytes
        pieces = []
        for length in [sealed_bytes(size) for size in sizes] if sizes else [len(data) - at]:
            pieces.append(data[at : at + length])
            at += length
        manifest = data[header.body :][: header.core.manifest_bytes]
        return cls(envelope, header, stanzas, data[lengths.end : header.body], manifest, pieces)

    def join(self, envelope=None, *, header_bytes=None):
        """Put together as it is: nothing is signed again."""
        text = header_bytes or canonical.encode(envelope or self.envelope)
        lengths = layout.Lengths(len(text), len(self.stanzas))
        return b"".join(
            (layout.fixed(lengths), text, self.stanzas, self.gap, self.manifest, *self.payload)
        )

    def signed(self, by, *, header=(), core=(), gap=None, at=AT, signer=None):
        """Put together with consistent offsets and digests, and signed by `by`."""
        new_core = msgspec.structs.replace(
            self.header.core,
            **{
                "sender": by.history.identity,
                "manifest": sha256(self.manifest).hex(),
                "manifest_bytes": len(self.manifest),
                **dict(core),
            },
        )
        size = self.header.body + len(self.manifest) + sum(map(len, self.payload))
        new = msgspec.structs.replace(
            self.header,
            **{
                "core": new_core,
                "card": by.key_id,
                "stanzas": sha256(self.stanzas).hex(),
                "size": size,
                **dict(header),
            },
        )
        envelope = (signer or by).sign(new, PACKAGE_TYPE, at=at)
        text = canonical.encode(envelope)
        length = new.body - layout.FIXED_BYTES - len(text) - len(self.stanzas)
        self.gap = bytes(length) if gap is None else gap + bytes(length - len(gap))
        self.header, self.envelope = new, envelope
        return self.join(envelope)


def manifest_plain(document, leaves=b"", *, size=None):
    """Encode without the checks that `Manifest` makes. `document` may be a dict of JSON."""
    text = document if isinstance(document, bytes) else _json(document)
    plain = len(text).to_bytes(4, "big") + text + leaves
    return plain + bytes((size or -(-len(plain) // 1024) * 1024) - len(plain))


def _json(document):
    import rfc8785

    return rfc8785.dumps(document)


SALT = bytes(24)  # of every message of a wild sender, so that a manifest can be written first


def entry(name, size, *, media_type="application/octet-stream", digest=None, salt=SALT):
    text = base64.b64encode(salt).decode()
    return {
        "name": name, "media_type": media_type, "bytes": size, "salt": text, "sha256": digest
    }  # fmt: skip


def message_of(content, index, data):
    """The message of one file, under the known salt."""
    with mock.patch("counterseal.crypto.chunked.os.urandom", bytes):
        message = content.file_message(index, len(data))
    return message.seal_whole(data)


def document(entries, *, layout="folder", model="scan", version=1, owner=None, statement=None):
    return {
        "kind": "manifest",
        "format": 1,
        "model": model,
        "version": version,
        "layout": layout,
        "files": entries,
        "owner": owner,
        "statement": statement,
    }


def leaves_of(data):
    return b"".join(
        leaf_digest(data[start : start + LEAF_BYTES]) for start in range(0, len(data), LEAF_BYTES)
    )


def wild(
    files,
    *,
    by,
    to,
    cast,
    at=AT,
    manifest=None,
    content=None,
    core=(),
    header=(),
    stanzas=None,
    recipients=None,
    messages=None,
    **more,
):
    """A package by a sender with good keys and no scruples: nothing is checked at sealing.

    `files` is a list of (name, data); `manifest` replaces the plaintext of the manifest,
    `stanzas` the stanzas (a function of content key and core), `core` fields of the core.
    """
    content = content or ContentKey.generate()
    if manifest is None:
        entries = [entry(name, len(data)) for name, data in files]
        manifest = manifest_plain(
            document(entries, **more), b"".join(leaves_of(data) for _, data in files)
        )
    sealed = content.manifest_message(len(manifest)).seal_whole(manifest)
    if messages is None:
        messages = [message_of(content, index, data) for index, (_, data) in enumerate(files)]
    fields = {
        "kind": "package",
        "format": 1,
        "suite": headers.SUITE,
        "package": content.package,
        "sender": by.history.identity,
        "created": canonical.timestamp(at),
        "expires": None,
        "charter": None,
        "commitment": content.commitment(),
        "manifest": sha256(sealed).hex(),
        "manifest_bytes": len(sealed),
        **dict(core),
    }
    built = Core(**fields)
    if stanzas is not None:
        raw, number = stanzas(content, built)
    else:
        chosen = for_keys(to, cast)
        made = fronts.make_stanzas(content, built, chosen)
        raw, number = stanza.encode(made), len(made)
    body = layout.body_offset(len(raw), 0)
    head = Header(
        **{
            "core": built,
            "card": by.key_id,
            "recipients": recipients or number,
            "stanzas": sha256(raw).hex(),
            "body": body,
            "size": body + len(sealed) + sum(map(len, messages)),
            **dict(header),
        }
    )
    envelope = by.sign(head, PACKAGE_TYPE, at=at)
    return Parts(envelope, head, raw, b"", sealed, list(messages)).signed(
        by, at=at, core=core, header=header
    )


def for_keys(to, cast):
    if isinstance(to, bytes):
        return ForPassphrase(to, CHEAP)
    return [
        ForKeys(one.key_id, one.history.newest.card.agreement.key())
        for one in (to if isinstance(to, list | tuple) else [to])
    ]


@dataclass(frozen=True)
class Cut:
    """One check, taken out of counterseal's source: `old` becomes `new` in one function.

    An attack has to succeed without the check that is said to stop it; else the test of that
    check would prove nothing.
    """

    where: str  # "counterseal.exchange.reader:Front.verify"
    old: str
    new: str = "pass"

    def apply(self, patch):
        module_name, _, path = self.where.partition(":")
        owner = importlib.import_module(module_name)
        *outer, name = path.split(".")
        for part in outer:
            owner = getattr(owner, part)
        function = inspect.getattr_static(owner, name)
        source = getattr(function, "cut", None) or textwrap.dedent(inspect.getsource(function))
        assert source.count(self.old) == 1, f"{self.where} does not have {self.old!r} once"
        source = source.replace(self.old, self.new)
        scope = {}
        code = compile(f"from __future__ import annotations\n{source}", f"<{self.where}>", "exec")
        exec(code, function.__globals__, scope)  # noqa: S102 - our own source, one check less
        scope[name].cut = source  # so that a second cut can be made in the same function
        patch.setattr(owner, name, scope[name])


def listed(folder):
    """The names in a folder, hidden ones too."""
    return sorted(path.name for path in Path(folder).iterdir())


def open_descriptors():
    return len(listed("/proc/self/fd"))


def flip(data, at, bit=0):
    changed = bytearray(data)
    changed[at] ^= 1 << bit
    return bytes(changed)


def manifest_of(path, key):
    """The manifest's plaintext, document and sizes, for somebody with the content key."""
    data = Path(path).read_bytes()
    parts = Parts.of(data)
    size = layout.plain_bytes(len(parts.manifest))
    message = key.manifest_message(size, prefix=parts.manifest[: layout.PREFIX_BYTES])
    plain = message.open_whole(parts.manifest)
    decoded = Manifest.decode(plain)
    return decoded, Parts.of(data, [one.bytes for one in decoded.document.files])


def reseal_leaf(key, index, size, sealed, *, leaf, plain):
    """The message with one leaf replaced, encrypted with the right key and nonces."""
    message = key.file_message(index, size, prefix=bytes(sealed[: layout.PREFIX_BYTES]))
    _, _, start, length = message.leaf_range(leaf)
    changed = bytearray(sealed)
    message.seal_leaf(leaf, memoryview(plain), memoryview(changed)[start : start + length])
    return bytes(changed)


@dataclass(frozen=True)
class Attack:
    """`make` prepares it and returns what the victim then runs, which returns what the attacker
    wanted to be true. `error` is how the victim refuses; `without` are the checks that stop it.
    """

    make: object
    error: type
    without: tuple = ()

    def is_refused(self, bench):
        import pytest

        victim = self.make(bench)
        with pytest.raises(self.error) as caught:
            victim()
        assert caught.value.message
        return caught.value

    def works_undefended(self, bench, patch):
        for cut in self.without:
            cut.apply(patch)
        assert self.make(bench)() is True


def attack(error, *without):
    """Decorator: a function that prepares an attack becomes a row of a table."""
    return lambda make: Attack(make, error, without)


def undefended(table):
    """The rows for which one can show that the check is what stops them."""
    return [sentence for sentence, row in table.items() if row.without]
