"""Attacks on a partner's directory: by whoever carries it, a third party, and thieves of keys.

The lab publishes for the clinic. A row says which keys its attacker holds; everybody holds every
directory that was ever sent. What python-tuf checks by itself has no cut: it is not our line.
"""

import json
from datetime import timedelta

import msgspec
import pytest
import rfc8785
from notices import Desk, edited, info, parts, relinked, restamped, signed, swapped
from workshop import AT, DAY, Cut, attack, undefended

from counterseal.crypto.signing import SigningKey
from counterseal.errors import (
    BadCiphertext,
    BadSignature,
    ExpiredKey,
    FormatError,
    ReplayedMessage,
    RolledBack,
    TrustError,
)
from counterseal.exchange.sent import SentBook
from counterseal.trust import prekeys, recovery
from counterseal.trust.directory import publisher
from counterseal.trust.directory.bundle import Contact, DirectoryBundle
from counterseal.trust.directory.keys import key_of, keyid_of
from counterseal.trust.identity import Identity
from counterseal.wire import canonical
from counterseal.wire.dsse import Envelope

READER = "counterseal.trust.directory.reader:"
NO_TIME = Cut(READER + "check_time", "signed.is_expired(at)", "False")
NO_NAMES = Cut(READER + "load", "names is not None and file.signed.counterseal != names", "False")
NO_DIGEST = Cut(READER + "check_file", "info.verify_length_and_hashes(data)")
NO_NUMBER = Cut(READER + "_check_number", "found != said", "False")
NO_ORDER = Cut(READER + "_check_forwards", "found < known", "False")
NO_ANCHOR = Cut(READER + "update", "_check_anchor(root, card.card)")
NO_CHAIN = Cut(READER + "_root", "check_signed(Root.type, root, by=before.signed)")
NO_SIGNATURE = Cut(READER + "check_signed", "by.verify_delegate", "(lambda *_: None)")


def edit(**fields):
    """Fields of a signed part, set."""
    return lambda part: part.update(fields)


def newest(desk, **more):
    """The clinic knows one directory; here is the next."""
    desk.take(desk.make())
    return desk.make(at=AT + DAY, **more)


# --- whoever carries it ---------------------------------------------------------------------


@attack(RolledBack, NO_ORDER)
def replayed(bench):
    desk = Desk(bench.cast)
    old = desk.make()
    desk.take(desk.make(at=AT + DAY))
    return lambda: desk.take(old, at=AT + DAY).fresh_until == AT + 8 * DAY


@attack(ExpiredKey, NO_TIME)
def frozen(bench):
    """News is held back; what comes is the last one from before, again and again."""
    desk = Desk(bench.cast)
    old = desk.make()
    desk.take(old)
    return lambda: desk.take(old, at=AT + 8 * DAY).name == "lab"


@attack(
    ExpiredKey,
    Cut(
        "counterseal.trust.partner:Partner.usable",
        "self.fresh_until is not None and at >= self.fresh_until + overdue",
        "False",
    ),
)
def silenced(bench):
    """Nothing comes at all."""
    desk = Desk(bench.cast)
    desk.take(desk.make())
    desk.book.usable("lab", at=AT + 6 * DAY)
    return lambda: desk.book.usable("lab", at=AT + 7 * DAY).name == "lab"


@attack(ExpiredKey, NO_TIME)
def old_first(bench):
    """The clinic never had one; it is offered one from last month."""
    desk = Desk(bench.cast)
    old = desk.make(prekeys=0)
    return lambda: desk.take(old, at=AT + 29 * DAY).name == "lab"


def mixed(name):
    """One file of an older directory among the files of a newer one, all of them genuine."""

    @attack(BadSignature, NO_DIGEST, NO_NUMBER)
    def make(bench):
        desk = Desk(bench.cast)
        old = desk.make()
        new = desk.make(at=AT + 8 * DAY)
        assert old.files[name] != new.files[name]
        files = {name: old.files[name]}
        if name != "prekeys.json":  # what the old targets name
            files["prekeys.json"] = old.files["prekeys.json"]
        if name == "snapshot.json":
            files["targets.json"] = old.files["targets.json"]
        return lambda: desk.take(swapped(new, **files), at=AT + 8 * DAY).name == "lab"

    return make


@attack(FormatError)
def endless(bench):
    data = Desk(bench.cast).make().encode()
    return lambda: DirectoryBundle.parse(data[:-1] + b" " * (8 << 20) + data[-1:])


@attack(FormatError)
def endless_timestamp(bench):
    """The one file whose length nobody signs."""
    desk = Desk(bench.cast)
    made = desk.make()
    return lambda: desk.take(swapped(made, **{"timestamp.json": b" " * (16 << 10) + b" "}))


@attack(FormatError, Cut(READER + "_check_files", "set(bundle.files) !=", "False and set() !="))
def smuggled(bench):
    desk = Desk(bench.cast)
    made = desk.make()
    return lambda: desk.take(swapped(made, **{"more.json": b"x"})).name == "lab"


def left_out(name):
    @attack((FormatError, BadSignature))
    def make(bench):
        desk = Desk(bench.cast)
        made = desk.make()
        return lambda: desk.take(swapped(made, **{name: None}))

    return make


def flipped(name):
    @attack((FormatError, BadSignature))
    def make(bench):
        desk = Desk(bench.cast)
        made = desk.make()
        data = bytearray(made.files[name])
        at = data.rindex(b'"sig":"') + 100 if b'"sig":"' in data else len(data) // 2
        data[at] = ord("0") if data[at] != ord("0") else ord("1")
        return lambda: desk.take(swapped(made, **{name: bytes(data)}))

    return make


# --- a third party with keys of its own -----------------------------------------------------


@attack(TrustError, NO_NAMES)
def for_the_bank(bench):
    """The bank hands on what the lab made for it; its numbers are far ahead of the clinic's."""
    desk = Desk(bench.cast)
    made = publisher.make_directory(desk.lab, bench.bank.history, at=AT, prekeys=0)
    return lambda: desk.take(made).name == "lab"


@attack(BadSignature, NO_ANCHOR)
def by_the_rival(bench):
    """All of it by the rival, in the lab's name and with the lab's real card."""
    desk = Desk(bench.cast)
    rival, own = bench.rival.signer(at=AT), SigningKey.generate()
    honest = publisher.make_directory(bench.rival, bench.clinic.history, at=AT, prekeys=0)
    names = {"identity": desk.lab.history.identity, "partner": desk.clinic.history.identity}

    def root(part):
        part["counterseal"] = names
        for role in ("snapshot", "timestamp"):
            part["roles"][role]["keyids"] = [keyid_of(own.public)]
        online = next(key for name, key in part["keys"].items() if name != keyid_of(rival.public))
        online["keyval"] = key_of(own.public).keyval
        part["keys"] = {
            keyid_of(rival.public): part["keys"][keyid_of(rival.public)],
            keyid_of(own.public): online,
        }

    made = edited(honest, "1.root.json", root, rival)
    made = swapped(made, **{"card.json": desk.lab.card().encode()})
    card = {"card.json": info(made.files["card.json"])}
    made = edited(made, "targets.json", edit(targets=card, counterseal=names), rival)
    made = edited(made, "snapshot.json", edit(counterseal=names), own)
    made = edited(made, "timestamp.json", edit(counterseal=names), own)
    made = relinked(made, own)
    return lambda: desk.take(made).name == "lab"


@attack(BadSignature, NO_SIGNATURE)
def timestamp_by_the_rival(bench):
    desk = Desk(bench.cast)
    made = newest(desk)
    forged = restamped(made, bench.rival.signer(at=AT))
    return lambda: desk.take(forged, at=AT + DAY).name == "lab"


@attack(BadSignature, NO_SIGNATURE)
def targets_by_the_online_key(bench):
    """Whoever broke into the machine that never sleeps names a contact of their own."""
    desk = Desk(bench.cast)
    made, online = newest(desk), desk.online_key()
    contact = canonical.encode(Contact.of("https://rival.example"))

    def targets(part):
        part["targets"]["contact.json"] = info(contact)

    made = swapped(made, **{"contact.json": contact})
    forged = relinked(edited(made, "targets.json", targets, online), online)
    return lambda: desk.take(forged, at=AT + DAY).urls == ("https://rival.example",)


@attack(BadSignature)
def signed_elsewhere(bench):
    """The lab's key has signed these bytes, but not as a directory."""
    desk = Desk(bench.cast)
    made = desk.make()
    halves = desk.identity_key().sign(rfc8785.dumps(parts(made, "1.root.json")))
    document = json.loads(made.files["1.root.json"])
    document["signatures"][0]["sig"] = (halves.classical + halves.pq).hex()
    return lambda: desk.take(swapped(made, **{"1.root.json": rfc8785.dumps(document)}))


# --- thieves of the online key --------------------------------------------------------------


@attack(
    RolledBack,
    Cut(
        READER + "_snapshot", '_check_forwards(snapshot.signed.version, known.snapshot, "snapshot")'
    ),
    Cut(READER + "_targets", '_check_forwards(targets.signed.version, known.targets, "targets")'),
)
def old_snapshot(bench):
    """Old files, kept fresh: the prekeys in them are used up, the contact is taken over."""
    desk = Desk(bench.cast)
    old = desk.make()
    desk.take(desk.make(at=AT + 8 * DAY), at=AT + 8 * DAY)
    forged = restamped(old, desk.online_key(), add=30 * 86400)
    forged = edited(
        forged, "timestamp.json", edit(expires="2026-06-20T12:00:00Z"), desk.online_key()
    )
    return lambda: desk.take(forged, at=AT + 8 * DAY).name == "lab"


@attack(
    RolledBack,
    Cut(READER + "_targets", '_check_forwards(targets.signed.version, known.targets, "targets")'),
)
def old_targets(bench):
    """The same under a new snapshot."""
    desk = Desk(bench.cast)
    old = desk.make()
    desk.take(desk.make(at=AT + 8 * DAY), at=AT + 8 * DAY)
    forged = relinked(old, desk.online_key(), skip=10)
    forged = restamped(forged, desk.online_key(), add=30 * 86400)
    forged = edited(
        forged, "timestamp.json", edit(expires="2026-06-20T12:00:00Z"), desk.online_key()
    )
    return lambda: desk.take(forged, at=AT + 8 * DAY).name == "lab"


@attack(RolledBack, Cut(READER + "_timestamp", "digest != known.timestamp_digest", "False"))
def same_number(bench):
    """Two directories of one number: each reader is shown another one."""
    desk = Desk(bench.cast)
    made = newest(desk)
    desk.take(made, at=AT + DAY)
    other = edited(made, "timestamp.json", edit(expires="2026-06-30T12:00:00Z"), desk.online_key())
    return lambda: desk.take(other, at=AT + DAY).name == "lab"


@attack(ExpiredKey, NO_TIME)
def kept_fresh_too_long(bench):
    """The online key alone keeps a directory alive until its targets end, and not longer."""
    desk = Desk(bench.cast)
    old = desk.make(prekeys=0)
    far = edit(expires="2030-01-01T00:00:00Z")
    forged = edited(old, "snapshot.json", far, desk.online_key())
    forged = edited(restamped(forged, desk.online_key()), "timestamp.json", far, desk.online_key())
    desk.take(forged, at=AT + 29 * DAY)
    return lambda: desk.take(forged, at=AT + 30 * DAY).name == "lab"


@attack(BadSignature, NO_ANCHOR)
def online_key_as_root(bench):
    """The thief of the online key has a root that names it for everything."""
    desk = Desk(bench.cast)
    made, online = desk.make(prekeys=0), desk.online_key()
    name = keyid_of(online.public)

    def root(part):
        for role in part["roles"].values():
            role["keyids"] = [name]

    forged = edited(made, "1.root.json", root, online)
    forged = relinked(edited(forged, "targets.json", edit(), online), online)
    return lambda: desk.take(forged).name == "lab"


# --- thieves of an identity key -------------------------------------------------------------


def protected(bench, *, threshold=2):
    """The root needs the lab's key and one of its recovery keys."""
    keys = [SigningKey.generate() for _ in range(2)]
    public = recovery.public_part(keys, threshold=1)
    bench.cast.lab = Identity.create("lab", recovery=public, at=AT - DAY)
    desk = Desk(bench.cast)
    desk.take(desk.make(threshold=threshold, cosigners=keys[:1], prekeys=0))
    return desk, keys


def next_root(made, change):
    """Root 2 by the thief, out of root 1."""
    part = parts(made, "1.root.json")
    part["version"] = 2
    change(part)
    return part


@attack(BadSignature, NO_CHAIN)
def threshold_lowered(bench):
    """The thief of the signing key alone gives itself the right to change roots."""
    desk, _ = protected(bench)
    made, stolen = desk.make(at=AT + DAY, prekeys=0), desk.identity_key()

    def lower(part):
        part["roles"]["root"].update(threshold=1)

    forged = swapped(made, **{"2.root.json": signed(next_root(made, lower), stolen)})
    return lambda: desk.take(forged, at=AT + DAY).name == "lab"


@attack(BadSignature)
def threshold_not_met(bench):
    desk, _ = protected(bench)
    made, stolen = desk.make(at=AT + DAY, prekeys=0), desk.identity_key()
    forged = swapped(made, **{"2.root.json": signed(next_root(made, lambda _: None), stolen)})
    return lambda: desk.take(forged, at=AT + DAY)


@attack(BadSignature, Cut(READER + "_check_anchor", "ours not in found.signed", "False"))
def by_recovery_keys_alone(bench):
    """Two recovery keys meet the threshold; but they only help to replace keys (SPEC 2.4)."""
    desk, keys = protected(bench)
    made = desk.make(at=AT + DAY, prekeys=0)
    forged = signed(next_root(made, lambda _: None), *keys)
    return lambda: desk.take(swapped(made, **{"2.root.json": forged}), at=AT + DAY).name == "lab"


@attack(
    FormatError, NO_NUMBER, Cut(READER + "_own_root", "root.signed.version != version", "False")
)
def root_under_another_number(bench):
    """A genuine old root in the place of the next: its stolen online key would count again."""
    desk = Desk(bench.cast)
    old = desk.make(prekeys=0)
    desk.take(old)
    made = swapped(old, **{"2.root.json": old.files["1.root.json"]})
    return lambda: desk.take(made).name == "lab"


@attack(BadSignature, NO_ANCHOR)
def replaced_key(bench):
    """The thief of a replaced key goes on where it stopped, with the newest card."""
    desk = Desk(bench.cast)
    before, stolen, online = desk.make(prekeys=0), desk.identity_key(), desk.online_key()
    desk.lab.rotate(at=AT)
    card = desk.lab.card().encode()
    forged = swapped(before, **{"card.json": card})
    forged = edited(forged, "targets.json", edit(targets={"card.json": info(card)}), stolen)
    forged = relinked(forged, online)
    return lambda: desk.take(forged).key_id == desk.lab.key_id


@attack(RolledBack)
def hidden_revocation(bench):
    """The clinic heard of the revocation; the thief's directory has the card from before."""
    desk = Desk(bench.cast)
    made = desk.make()
    desk.lab.revoke(reason="compromised", at=AT)
    desk.take(desk.make())
    return lambda: desk.take(made)


@attack(BadSignature, NO_CHAIN)
def another_chain(bench):
    """A root that does not follow from the known one, though it names the right keys."""
    desk, keys = protected(bench)
    desk.lab.rotate(at=AT)
    made = publisher.make_directory(
        desk.lab,
        desk.clinic.history,
        at=AT,
        start_over=True,
        threshold=1,
        cosigners=keys,
        prekeys=0,
    )
    stolen = desk.identity_key()
    forged = swapped(made, **{"2.root.json": signed(parts(made, "2.root.json"), stolen)})
    return lambda: desk.take(forged).name == "lab"


@attack(BadSignature, Cut(READER + "_root", "check_restart(root, after=before.signed)"))
def threshold_shaken_off(bench):
    """The thief of the signing key makes a card of its own and revokes the stolen one after it:
    then the known root leads nowhere, and the thief's first root would ask for nobody else."""
    desk, _ = protected(bench)
    desk.lab.rotate(at=AT)
    desk.lab.revoke(reason="compromised", which=desk.lab.history.identity, at=AT)
    made = desk.make(at=AT, threshold=1, start_over=True, prekeys=0)
    return lambda: desk.take(made).name == "lab"


# --- prekeys --------------------------------------------------------------------------------


def offered(bench, change):
    """A bundle that the lab's own key signed, outside any directory."""
    desk = Desk(bench.cast)
    bundle = bundle_of(desk.make(prekeys=2))
    forged = desk.lab.sign(change(bundle), prekeys.PREKEYS_TYPE, at=AT)
    book, us = desk.book, desk.clinic.history
    return lambda: book.add_prekeys("lab", forged, us=us, at=AT).prekeys.last_resort is not None


def bundle_of(made):
    data = made.files["prekeys.json"]
    envelope = canonical.decode(data, Envelope, limit=1 << 22, what="prekeys")
    return canonical.decode(envelope.payload, prekeys.PrekeyBundle, limit=1 << 22, what="prekeys")


@attack(
    FormatError,
    Cut(
        "counterseal.trust.prekeys:_check_keys",
        "bundle.last_resort.expires > bundle.created + LAST_RESORT_LIFETIME",
        "False",
    ),
)
def last_resort_for_ever(bench):
    """Then `forward secrecy in three weeks` would be untrue."""

    def change(bundle):
        longer = bundle.last_resort.expires + timedelta(seconds=1)
        return msgspec.structs.replace(
            bundle, last_resort=msgspec.structs.replace(bundle.last_resort, expires=longer)
        )

    return offered(bench, change)


@attack(
    FormatError,
    Cut(
        "counterseal.trust.prekeys:_check_keys",
        "len({prekey_id(key) for key in everything}) != len(everything)",
        "False",
    ),
)
def last_resort_is_one_time(bench):
    """Deleted with the first package, it would leave the others closed."""

    def change(bundle):
        return msgspec.structs.replace(
            bundle, last_resort=msgspec.structs.replace(bundle.last_resort, key=bundle.keys[0])
        )

    return offered(bench, change)


def to_last_resort(bench):
    """The lab's one-time prekeys are all used up when the clinic seals."""
    desk = Desk(bench.cast)
    lab = desk.take(desk.make(prekeys=2))
    SentBook(bench.clinic).spend([prekeys.prekey_id(key) for key in lab.prekeys.keys])
    return desk, bench.seal({"w.bin": b"x"}, by=bench.clinic, to=[lab])


@attack(
    BadCiphertext,
    Cut(
        "counterseal.trust.prekeystore:PrekeyStore.delete_outlived",
        "stored.expires + _ARRIVAL[kind] < at",
        "False",
    ),
)
def stolen_later(bench):
    """Everything that the lab holds is stolen four weeks later; the package was recorded."""
    desk, path = to_last_resort(bench)
    bench.read(path, by=bench.lab, sender=bench.clinic)
    desk.make(at=AT + 22 * DAY)
    return lambda: bool(bench.read(path, by=bench.lab, sender=bench.clinic))


@attack(
    ReplayedMessage,
    Cut("counterseal.exchange.replay:_check_replay", "opened is not None and not again", "False"),
)
def replayed_last_resort(bench):
    """No prekey is gone that would stop it: the record of opened packages does."""
    _, path = to_last_resort(bench)
    bench.read(path, by=bench.lab, sender=bench.clinic, remember=True)
    return lambda: bool(bench.read(path, by=bench.lab, sender=bench.clinic, remember=True))


@attack(
    BadCiphertext,
    Cut(
        "counterseal.trust.prekeystore:PrekeyStore.opener",
        "stored is None or stored.partner != partner",
        "stored is None",
    ),
)
def last_resort_of_another(bench):
    """The rival saw the clinic's directory, and seals to the last-resort prekey in it."""
    desk = Desk(bench.cast)
    lab = desk.take(desk.make(prekeys=2))
    SentBook(bench.rival).spend([prekeys.prekey_id(key) for key in lab.prekeys.keys])
    path = bench.seal({"w.bin": b"x"}, by=bench.rival, to=[lab])
    return lambda: bool(bench.read(path, by=bench.lab, sender=bench.rival))


ATTACKS = {
    "an old directory does not come back": replayed,
    "a directory that is held back is refused once it ended": frozen,
    "a partner who fell silent is not usable": silenced,
    "an old directory is not a first one either": old_first,
    "old targets do not go with a new snapshot": mixed("targets.json"),
    "an old snapshot does not go with a new timestamp": mixed("snapshot.json"),
    "old prekeys do not go with new targets": mixed("prekeys.json"),
    "endless data is refused unread": endless,
    "an endless timestamp is refused unread": endless_timestamp,
    "a file that nobody signed for is refused": smuggled,
    **{
        f"a directory without {name} is refused": left_out(name)
        for name in (
            "1.root.json",
            "timestamp.json",
            "snapshot.json",
            "targets.json",
            "card.json",
            "prekeys.json",
        )
    },
    **{
        f"a changed {name} is refused": flipped(name)
        for name in (
            "1.root.json",
            "timestamp.json",
            "snapshot.json",
            "targets.json",
            "card.json",
            "prekeys.json",
        )
    },
    "a directory made for another partner is refused": for_the_bank,
    "a rival's directory around the real card is refused": by_the_rival,
    "a rival's timestamp is refused": timestamp_by_the_rival,
    "the online key names no files": targets_by_the_online_key,
    "what was signed as something else is no directory": signed_elsewhere,
    "the thief of the online key cannot go back to an old snapshot": old_snapshot,
    "the thief of the online key cannot go back to old targets": old_targets,
    "two directories of one number are noticed": same_number,
    "the online key keeps nothing alive beyond the targets' end": kept_fresh_too_long,
    "the online key does not make itself root": online_key_as_root,
    "a stolen signing key does not lower the threshold": threshold_lowered,
    "a stolen signing key does not meet the threshold": threshold_not_met,
    "recovery keys alone make no root": by_recovery_keys_alone,
    "an old root does not come again as the next": root_under_another_number,
    "a replaced key speaks no more": replaced_key,
    "a revocation that was seen cannot be hidden": hidden_revocation,
    "a revocation does not shake off a threshold": threshold_shaken_off,
    "a root that does not follow from the known one is refused": another_chain,
    "a last-resort prekey that lives too long is refused": last_resort_for_ever,
    "a last-resort prekey that is a one-time prekey too is refused": last_resort_is_one_time,
    "a last-resort prekey is gone when its keeper is robbed": stolen_later,
    "a package for the last-resort prekey opens once": replayed_last_resort,
    "a last-resort prekey serves one partner only": last_resort_of_another,
}


@pytest.mark.parametrize("sentence", ATTACKS)
def test_attack_is_refused(sentence, bench):
    ATTACKS[sentence].is_refused(bench)


@pytest.mark.parametrize("sentence", undefended(ATTACKS))
def test_without_its_defence_the_attack_works(sentence, bench, monkeypatch):
    ATTACKS[sentence].works_undefended(bench, monkeypatch)
