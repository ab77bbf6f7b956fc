"""How keys are agreed on: ours beside the textbooks and beside TLS, and with a thousand partners.

CPU of both sides, bytes of both directions, round trips, and what each way is good for. Each
turn does every contender for a twentieth of a second; figures are medians over the turns.
"""

from __future__ import annotations

import time
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final

import counterseal
from counterseal.bench import machine
from counterseal.crypto.ephemeral import Ephemeral, answer
from counterseal.exchange import groups
from counterseal.exchange.epoch import Seat
from counterseal.exchange.handshake import Initiator, Responder
from counterseal.exchange.header import PACKAGE_TYPE, Core
from counterseal.exchange.keys import ContentKey
from counterseal.exchange.sessionbook import SessionBook
from counterseal.exchange.stanza import KeyStanza
from counterseal.trust import prekeys, signed
from counterseal.trust.identity import Identity
from counterseal.trust.pairing import Accepter, Invitation, Inviter
from counterseal.wire import canonical

if TYPE_CHECKING:
    from collections.abc import Callable

    from counterseal.bench.baselines import Exchange

    Say = Callable[[str], None]

__all__ = ["FORMAT", "PROFILES", "Profile", "run"]

FORMAT: Final = "counterseal-bench-handshake-1"
OURS: Final = "counterseal handshake"
OFFLINE: Final = "counterseal offline: bundle, verify, seal, sign, open, verify"
PAIRING: Final = "counterseal pairing (CPace), both sides"
CLASSICAL: Final = "TLS 1.3, P-256, P-256 certificates"


@dataclass(frozen=True, slots=True)
class Profile:
    """`seconds` of each contender in each of `runs` turns; `partners` of the scaling part."""

    runs: int
    seconds: float
    partners: tuple[int, ...]


PROFILES: Final = {
    "full": Profile(runs=15, seconds=0.05, partners=(1, 10, 100, 1000)),
    "quick": Profile(runs=3, seconds=0.01, partners=(1, 20)),
}


def run(profile: Profile, *, say: Say = lambda _: None) -> dict[str, Any]:
    """Measure; nothing touches the disk."""
    data: dict[str, Any] = {
        "format": FORMAT,
        "counterseal": counterseal.__version__,
        "machine": machine.facts(),
        "load_before": machine.load_average(),
        "settings": asdict(profile),
        "missing": [],
    }
    contenders = [*_ours(), *_baselines(data["missing"])]
    data["contenders"] = _turns(contenders, profile, say)
    data["scaling"] = [_scale(count, say) for count in profile.partners]
    data["load_after"] = machine.load_average()
    return data


def _turns(contenders: list[Exchange], profile: Profile, say: Say) -> dict[str, dict[str, Any]]:
    results: dict[str, dict[str, Any]] = {}
    for one in contenders:
        facts = {key: getattr(one, key) for key in _FACTS}
        results[one.name] = {**facts, "bytes": one.run(), "cpu": [], "wall": [], "failures": []}
    for turn in range(profile.runs):
        for one in contenders:
            say(f"turn {turn + 1}/{profile.runs}: {one.name}")
            kept = results[one.name]
            try:
                wall, cpu = _time(one.run, profile.seconds)
            except (counterseal.CountersealError, RuntimeError) as error:
                kept["failures"].append(f"{type(error).__name__}: {error}")
                continue
            kept["wall"].append(wall)
            kept["cpu"].append(cpu)
    return results


_FACTS: Final = ("round_trips", "authenticates", "forward_secret", "quantum_safe")


def _time(work: Callable[[], object], seconds: float) -> tuple[float, float]:
    """Wall and CPU seconds of one exchange, from as many as fit."""
    count = 0
    wall, cpu = time.perf_counter(), time.process_time()
    while True:
        work()
        count += 1
        elapsed = time.perf_counter() - wall
        if elapsed >= seconds:
            return elapsed / count, (time.process_time() - cpu) / count


def _baselines(missing: list[str]) -> list[Exchange]:
    try:
        from counterseal.bench.baselines import baselines
    except ModuleNotFoundError as error:
        missing.append(f"without the other ways: {error.name} is not installed")
        return []
    return baselines()


def _ours() -> list[Exchange]:
    from counterseal.bench.baselines import Exchange

    lab, clinic = Identity.create("lab"), Identity.create("clinic")
    return [
        Exchange(OURS, lambda: handshake(lab, clinic), 1.5, "both", True, True),
        Exchange("X25519 and ML-KEM-768, ephemeral", _ephemeral, 1, "nobody", True, True),
        Exchange(OFFLINE, _Offline(lab, clinic).run, 0, "both", True, True),
        Exchange(PAIRING, lambda: pairing(lab, clinic), 2, "who knows the password", True, True),
    ]


def handshake(lab: Identity, clinic: Identity, *, partners: dict[str, Any] | None = None) -> int:
    """One handshake in memory; returns the bytes that crossed."""
    at = datetime.now(UTC)
    known = partners if partners is not None else {lab.history.identity: lab.history}
    caller = Initiator(lab, to=clinic.history, purpose="bench")
    called = Responder(clinic, partners=known.get, purpose="bench", sessions=SessionBook())
    hello = caller.hello(at=at)
    second = called.answer(hello, at=at)
    third = caller.prove(second, at=at)
    fourth, theirs = called.finish(third, at=at)
    ours = caller.finish(fourth, at=at)
    if ours.session != theirs.session:
        raise RuntimeError("the two sides do not agree")
    return len(hello) + len(second) + len(third) + len(fourth)


def _ephemeral() -> int:
    mine = Ephemeral()
    theirs, secret = answer(mine.share)
    if mine.finish(theirs) != secret:
        raise RuntimeError("the two sides do not agree")
    return len(mine.share) + len(theirs)


class _Offline:
    """What a package costs apart from its payload, one recipient: both sides, as they do it."""

    def __init__(self, lab: Identity, clinic: Identity) -> None:
        self.at = datetime.now(UTC)
        self.lab, self.clinic = lab, clinic
        self.bundle = clinic.make_prekeys(lab.history, 1, at=self.at)

    def run(self) -> int:
        at, lab, clinic = self.at, self.lab, self.clinic
        bundle = prekeys.verify(self.bundle, of=clinic.history, to=lab.history.identity, at=at)
        public = bundle.keys[0]
        identifier = prekeys.prekey_id(public)
        content = ContentKey.generate()
        core = _core(content, lab, at)
        card = clinic.current(at=at)
        stanza = KeyStanza.seal(
            content,
            core,
            card=card.key_id,
            to=card.card.agreement.key(),
            prekey=(identifier, public.key()),
        )
        envelope = lab.sign(core, PACKAGE_TYPE, at=at)
        crossed = len(stanza.encode()) + len(canonical.encode(envelope))
        signer = lab.history.for_signature(lab.key_id, made=core.created, at=at)
        signed.verify(envelope, PACKAGE_TYPE, by=signer.card.signing.key())
        half = clinic.prekeys.opener(identifier, partner=lab.history.identity)
        if half is None:
            raise RuntimeError("the prekey is gone")
        _, opener = clinic.openers()[0]
        stanza.open(core, card=card.key_id, by=opener, prekey=(identifier, half))
        return crossed


def _core(content: ContentKey, sender: Identity, at: datetime) -> Core:
    return Core(
        kind="package",
        format=1,
        suite="counterseal-1",
        package=content.package,
        sender=sender.history.identity,
        created=canonical.timestamp(at),
        expires=None,
        charter=None,
        commitment=content.commitment(),
        manifest="0" * 64,
        manifest_bytes=1,
    )


def pairing(lab: Identity, clinic: Identity) -> int:
    """A whole pairing in memory, with the cards that it brings across."""
    at = datetime.now(UTC)
    inviter = Inviter(Invitation.create(at=at), us=lab)
    accepter = Accepter(inviter.invitation.code, us=clinic, at=at)
    second = inviter.receive(accepter.hello, at=at)
    third = accepter.receive(second.send, at=at)
    if not isinstance(third, bytes):
        raise AssertionError("a pairing has four messages")  # noqa: TRY004
    fourth = inviter.receive(third, at=at)
    accepter.receive(fourth.send, at=at)
    return len(accepter.hello) + len(second.send) + len(third) + len(fourth.send)


def _scale(count: int, say: Say) -> dict[str, Any]:
    """What one more partner costs: to be called, to seal for, to have in a group."""
    say(f"scaling: {count} partners")
    at = datetime.now(UTC)
    lab = Identity.create("lab", at=at)
    everybody = [Identity.create(f"partner-{i}", at=at) for i in range(count)]
    known = {one.history.identity: one.history for one in everybody}
    sample = everybody[:: max(1, count // 20)]

    def each(work: Callable[[Identity], object]) -> float:
        cpu = time.process_time()
        for one in sample:
            work(one)
        return (time.process_time() - cpu) / len(sample)

    content = ContentKey.generate()
    core = _core(content, lab, at)
    cpu = time.process_time()
    stanzas = [
        KeyStanza.seal(
            content,
            core,
            card=one.key_id,
            to=one.history.newest.card.agreement.key(),
            prekey=None,
        )
        for one in everybody
    ]
    sealing = time.process_time() - cpu
    cpu = time.process_time()
    _, epoch = groups.Group.found(lab, [Seat(one.history) for one in everybody], at=at)
    founding = time.process_time() - cpu
    return {
        "partners": count,
        "handshake_cpu": each(lambda one: handshake(one, lab, partners=known)),
        "seal_cpu": sealing,
        "seal_bytes": sum(len(stanza.encode()) for stanza in stanzas),
        "epoch_cpu": founding,
        "epoch_bytes": len(canonical.encode(epoch.envelope)) + sum(map(len, epoch.shares.values())),
    }
