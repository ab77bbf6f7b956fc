"""What the tests of directories share: the lab publishes, the clinic reads, an attacker edits.

An attacker changes any file and signs it anew with the keys that the row says they hold.
"""

from __future__ import annotations

import json
from hashlib import sha256

import rfc8785
from workshop import AT

from counterseal.trust.directory import publisher
from counterseal.trust.directory.bundle import SNAPSHOT, TARGETS, TIMESTAMP, DirectoryBundle
from counterseal.trust.directory.keys import HybridSigner
from counterseal.trust.partner import PartnerBook


class Desk:
    """The clinic's book, with the lab pinned, and the lab's press."""

    def __init__(self, cast, *, at=AT):
        self.cast, self.lab, self.clinic = cast, cast.lab, cast.clinic
        self.book = PartnerBook(cast.clinic.store)
        self.book.add(cast.partner(cast.lab, at=at))

    def make(self, *, at=AT, **more):
        return publisher.make_directory(self.lab, self.clinic.history, at=at, **more)

    def take(self, bundle, *, at=AT):
        """What the clinic holds of the lab after reading it off the wire."""
        bundle = DirectoryBundle.parse(bundle.encode())
        return self.book.update_directory("lab", bundle, us=self.clinic.history, at=at)[1]

    def identity_key(self, *, at=AT):
        return self.lab.signer(at=at)

    def online_key(self):
        from counterseal.trust.directory import online

        return online.of(self.lab)


def parts(bundle, name):
    """The signed part of a metadata file."""
    return json.loads(bundle.files[name])["signed"]


def signed(part, *signers):
    """A metadata file of that part, as its signers would write it."""
    payload = rfc8785.dumps(part)
    made = [HybridSigner(signer).sign(payload).to_dict() for signer in signers]
    return rfc8785.dumps({"signatures": made, "signed": part})


def edited(bundle, name, change, *signers):
    """One metadata file changed by `change` and signed by `signers`; the others as they were."""
    part = parts(bundle, name)
    change(part)
    return swapped(bundle, **{name: signed(part, *signers)})


def swapped(bundle, **files):
    kept = {name: data for name, data in {**bundle.files, **files}.items() if data is not None}
    return DirectoryBundle.of(kept)


def info(data, version=None):
    found = {"hashes": {"sha256": sha256(data).hexdigest()}, "length": len(data)}
    return found if version is None else {**found, "version": version}


def relinked(bundle, online, *, skip=0):
    """Snapshot and timestamp made to fit the targets, by a holder of the online key."""

    def snapshot(part):
        part["version"] += 1 + skip
        number = parts(bundle, TARGETS)["version"]
        part["meta"] = {TARGETS: info(bundle.files[TARGETS], number)}

    bundle = edited(bundle, SNAPSHOT, snapshot, online)
    return restamped(bundle, online)


def restamped(bundle, online, *, add=1):
    """A timestamp made to fit the snapshot, by a holder of the online key."""

    def timestamp(part):
        part["version"] += add
        number = parts(bundle, SNAPSHOT)["version"]
        part["meta"] = {SNAPSHOT: info(bundle.files[SNAPSHOT], number)}

    return edited(bundle, TIMESTAMP, timestamp, online)
