"""Make a directory for one partner, and keep it fresh (SPEC 2.8).

| file | signed by | ends after | made anew |
|---|---|---|---|
| root | identity key, perhaps recovery keys | 365 days | keys changed, or 60 days left |
| targets | identity key | 30 days | a file or its signer changed, or 15 days left |
| snapshot | online key | 30 days | with targets or a new online key |
| timestamp | online key | 7 days | always |

What was sent last is kept in the store, so numbers only go up. A timestamp is numbered by the
clock: a machine that holds nothing but the online key counts on without asking.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Final

import msgspec
from tuf.api.metadata import (
    MetaFile,
    Root,
    Snapshot,
    TargetFile,
    Targets,
    Timestamp,
)

from counterseal.errors import TrustError
from counterseal.trust.directory import bundle as bundles
from counterseal.trust.directory import online as online_keys
from counterseal.trust.directory import roots, supply
from counterseal.trust.directory.bundle import DirectoryBundle
from counterseal.trust.directory.keys import HybridSigner
from counterseal.trust.directory.metadata import SPEC_VERSION, Names, check_time, load, make
from counterseal.trust.prekeys import PREKEYS_TYPE, PrekeyBundle
from counterseal.wire import canonical, limits
from counterseal.wire.dsse import Envelope

if TYPE_CHECKING:
    from collections.abc import Sequence

    from counterseal.crypto.signing import Signer
    from counterseal.trust.directory.bundle import Contact
    from counterseal.trust.history import History
    from counterseal.trust.identity import Identity

__all__ = ["make_directory", "refresh_timestamp"]

SUPPLY: Final = 20
TARGETS_LIFETIME: Final = timedelta(days=30)
TARGETS_RENEWAL: Final = timedelta(days=15)
TIMESTAMP_LIFETIME: Final = timedelta(days=7)
_EPOCH: Final = datetime(2000, 1, 1, tzinfo=UTC)
_SENT: Final = "directory-sent"


def make_directory(
    identity: Identity,
    partner: History,
    *,
    at: datetime,
    prekeys: int = SUPPLY,
    contact: Contact | None = None,
    threshold: int | None = None,
    cosigners: Sequence[Signer] = (),
    renew_online: bool = False,
    start_over: bool = False,
) -> DirectoryBundle:
    """The directory of `identity` for one partner, as it should stand now.

    `prekeys` one-time prekeys are on offer, and a last-resort one (0: none at all). `threshold`
    keys must sign the root from now on: ours and recovery keys, enough of which have to be among
    `cosigners` whenever the root changes. `renew_online` replaces an online key that may be
    stolen. `start_over` begins a chain of roots that does not follow from the last one: partners
    who hold an earlier directory have to meet us again. If our newest card is revoked the
    directory is the card alone: that is the news.
    """
    if not 0 <= prekeys <= limits.PREKEYS:
        raise ValueError(f"0 to {limits.PREKEYS} prekeys")
    if identity.history.newest.revoked is not None:
        return DirectoryBundle.of({bundles.CARD: identity.history.document.encode()})
    names = Names(identity=identity.history.identity, partner=partner.identity)
    place = f"{names.identity}/{names.partner}"
    with identity.store.exclusive():
        stored = identity.store.get(_SENT, place)
        sent = None if stored is None else _Sent.read(DirectoryBundle.parse(stored))
        online = HybridSigner(online_keys.of(identity, renew=renew_online))
        chain = roots.extend(
            {} if sent is None else sent.bundle.roots(),
            identity,
            names,
            online=online.public_key,
            threshold=threshold,
            cosigners=cosigners,
            start_over=start_over,
            at=at,
        )
        files = {bundles.CARD: identity.history.document.encode()}
        if prekeys:
            files[bundles.PREKEYS] = _prekeys(identity, partner, sent, prekeys, at=at)
        if contact is not None:
            files[bundles.CONTACT] = canonical.encode(contact)
        own = HybridSigner(identity.signer(at=at))
        made = _Making(names, sent, own, online, canonical.timestamp(at)).bundle(chain, files)
        identity.store.put(_SENT, place, made.encode())
    return made


def refresh_timestamp(bundle: DirectoryBundle, online: Signer, *, at: datetime) -> DirectoryBundle:
    """The same directory with a new timestamp, for which the online key is enough.

    Raises ExpiredKey when more than the timestamp is over: then the identity must make it anew.
    """
    sent, signer = _Sent.read(bundle), HybridSigner(online)
    if sent.root.roles[Timestamp.type].keyids != [signer.public_key.keyid]:
        raise TrustError(
            "this is not the online key of that directory", hint="it changes with every card"
        )
    for part in (sent.root, sent.snapshot, sent.targets):
        check_time(part, at=at)
    making = _Making(sent.names, sent, signer, signer, canonical.timestamp(at))
    timestamp = making.timestamp(bundle.file(bundles.SNAPSHOT), sent.snapshot.version)
    return DirectoryBundle.of({**bundle.files, bundles.TIMESTAMP: timestamp})


@dataclass(frozen=True, slots=True)
class _Sent:
    """A directory of ours, read back."""

    bundle: DirectoryBundle
    root: Root
    timestamp: Timestamp
    snapshot: Snapshot
    targets: Targets

    @classmethod
    def read(cls, bundle: DirectoryBundle) -> _Sent:
        chain = bundle.roots()
        return cls(
            bundle,
            load(chain[max(chain)], Root, names=None).signed,
            load(bundle.file(bundles.TIMESTAMP), Timestamp, names=None).signed,
            load(bundle.file(bundles.SNAPSHOT), Snapshot, names=None).signed,
            load(bundle.file(bundles.TARGETS), Targets, names=None).signed,
        )

    @property
    def names(self) -> Names:
        return msgspec.convert(self.root.unrecognized_fields["counterseal"], Names)


@dataclass(frozen=True, slots=True)
class _Making:
    """One making: for whom, after what, signed by whom, when."""

    names: Names
    sent: _Sent | None
    own: HybridSigner
    online: HybridSigner
    at: datetime

    def bundle(self, chain: dict[int, bytes], files: dict[str, bytes]) -> DirectoryBundle:
        """Everything that has to be made anew, and the rest as it was."""
        targets, number = self._targets(files)
        snapshot, version = self._snapshot(targets, number)
        return DirectoryBundle.of(
            {
                **{bundles.root_name(version): data for version, data in chain.items()},
                bundles.TARGETS: targets,
                bundles.SNAPSHOT: snapshot,
                bundles.TIMESTAMP: self.timestamp(snapshot, version),
                **files,
            }
        )

    def _targets(self, files: dict[str, bytes]) -> tuple[bytes, int]:
        named = {name: TargetFile.from_data(name, data) for name, data in files.items()}
        sent = self.sent
        if (
            sent is not None
            and sent.targets.targets == named
            and sent.root.roles[Targets.type].keyids == [self.own.public_key.keyid]
            and sent.targets.expires - self.at > TARGETS_RENEWAL
        ):
            return sent.bundle.file(bundles.TARGETS), sent.targets.version
        version = 1 if sent is None else sent.targets.version + 1
        targets = Targets(
            version,
            SPEC_VERSION,
            self.at + TARGETS_LIFETIME,
            named,
            unrecognized_fields=self.names.field(),
        )
        return make(targets, by=[self.own]).to_bytes(), version

    def _snapshot(self, targets: bytes, number: int) -> tuple[bytes, int]:
        sent = self.sent
        if (
            sent is not None
            and sent.bundle.file(bundles.TARGETS) == targets
            and sent.root.roles[Snapshot.type].keyids == [self.online.public_key.keyid]
        ):
            return sent.bundle.file(bundles.SNAPSHOT), sent.snapshot.version
        version = 1 if sent is None else sent.snapshot.version + 1
        snapshot = Snapshot(
            version,
            SPEC_VERSION,
            self.at + TARGETS_LIFETIME,
            {bundles.TARGETS: MetaFile.from_data(number, targets, ["sha256"])},
            self.names.field(),
        )
        return make(snapshot, by=[self.online]).to_bytes(), version

    def timestamp(self, snapshot: bytes, number: int) -> bytes:
        before = 0 if self.sent is None else self.sent.timestamp.version
        timestamp = Timestamp(
            max(before + 1, int((self.at - _EPOCH).total_seconds())),
            SPEC_VERSION,
            self.at + TIMESTAMP_LIFETIME,
            MetaFile.from_data(number, snapshot, ["sha256"]),
            self.names.field(),
        )
        return make(timestamp, by=[self.online]).to_bytes()


def _prekeys(
    identity: Identity, partner: History, sent: _Sent | None, count: int, *, at: datetime
) -> bytes:
    """The prekey bundle on offer: the one before, byte for byte, as long as it will do."""
    data, before = None, None
    if sent is not None and bundles.PREKEYS in sent.bundle.files:
        data = sent.bundle.file(bundles.PREKEYS)
        limit = limits.PREKEY_BUNDLE_BYTES
        envelope = canonical.decode(data, Envelope, limit=limit, what="prekeys")
        before = canonical.decode(envelope.payload, PrekeyBundle, limit=limit, what="prekeys")
    bundle = supply.refill(identity, partner, before=before, supply=count, at=at)
    if data is not None and bundle is before:
        return data
    return canonical.encode(identity.sign(bundle, PREKEYS_TYPE, at=at))
