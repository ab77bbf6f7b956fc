"""Two charters compared: the relation, an example of each side, and what else changed."""

from datetime import UTC, datetime, timedelta

import pytest
from charters import DAY, DIGEST, ENDS, RIVAL, a_charter, a_usage, amended, changed

from counterseal import _extras
from counterseal.charter import diff, document, terms
from counterseal.charter.decision import Rules
from counterseal.charter.diff import compare
from counterseal.charter.terms import FREE, ORDERED, PROVED, at, paths_of
from counterseal.errors import MissingExtraError

OLD = a_charter()
PREDICT, EXPLAIN = OLD.permissions
SCAN, TRIAGE = OLD.assets
WEEK = OLD.limits.hours[0]
SATURDAY = document.Hours(days=("sat",), begin=0, end=1440)

NARROWER = {
    "fewer rows": {"limits": {"rows_per_request": 255}},
    "fewer bytes": {"limits": {"bytes_per_request": 1}},
    "fewer at a time": {"limits": {"concurrency": 3}},
    "a smaller quota": {"limits": {"quotas": (changed(OLD.limits.quotas[0], count=9999), OLD.limits.quotas[1])}},
    "one quota more": {"limits": {"quotas": (*OLD.limits.quotas, document.Quota(unit="tokens", count=5, period="hour"))}},
    "shorter hours": {"limits": {"hours": (changed(WEEK, begin=361),)}},
    "one day less": {"limits": {"hours": (changed(WEEK, days=("mon",)),)}},
    "hours in two parts": {"limits": {"hours": (changed(WEEK, end=600), changed(WEEK, begin=601))}},
    "one network less": {"limits": {"networks": ("192.0.2.0/24",)}},
    "a part of a network": {"limits": {"networks": ("192.0.2.0/25", "2001:db8:1::/48")}},
    "a shorter term": {"ends": ENDS - DAY},
    "a later begin": {"begins": OLD.begins + DAY},
    "one permission less": {"permissions": (PREDICT,)},
    "one role less": {"permissions": (PREDICT, changed(EXPLAIN, roles=("auditor",)))},
    "one purpose less": {"purpose": {"allowed": ("diagnosis",)}},
    "a purpose for a permission": {"permissions": (changed(PREDICT, purposes=("research",)), EXPLAIN)},
    "one version instead of all": {"assets": (changed(SCAN, versions="=1.4.2"), TRIAGE)},
    "a version less at the end": {"assets": (SCAN, changed(TRIAGE, versions=">=1.2,<1.99999.99999"))},
    "digests for what had none": {"assets": (SCAN, changed(TRIAGE, digests=(DIGEST,)))},
    "no digest at all": {"assets": (changed(SCAN, digests=()), TRIAGE)},
}  # fmt: skip
ORDER = {
    "a slower rate": {"limits": {"rate": document.Rate(count=59, seconds=60, burst=10)}},
    "the same rate in another word, and a smaller burst": {
        "limits": {"rate": document.Rate(count=1, seconds=1, burst=9)}
    },
    "fewer classes": {"output": {"top": 4}},
    "fewer decimals": {"output": {"decimals": 0}},
    "noise": {"output": {"noise_permille": 1}},
    "a shorter session": {"session": {"max_seconds": 3600}},
    "a shorter idle time": {"session": {"idle_seconds": 60}},
    "one purpose more is prohibited": {
        "purpose": {"prohibited": (*OLD.purpose.prohibited, "insurance")}
    },
}


def no_rate(charter):
    return changed(charter, limits={"rate": None})


@pytest.mark.parametrize("what", NARROWER)
def test_narrower(what):
    new = amended(OLD, **NARROWER[what])
    there, back = compare(OLD, new), compare(new, OLD)
    assert there.relation == "narrower"
    assert there.narrows
    assert there.newly_allowed is None
    assert there.other_terms == there.wider == there.narrower == ()
    decides(there.newly_refused, allows=OLD, refuses=new)
    assert back.relation == "wider"
    assert not back.narrows
    assert back.newly_refused is None
    decides(back.newly_allowed, allows=OLD, refuses=new)


@pytest.mark.parametrize("what", ORDER)
def test_narrower_in_order(what):
    new = amended(OLD, **ORDER[what])
    there, back = compare(OLD, new), compare(new, OLD)
    assert (there.relation, back.relation) == ("narrower", "wider")
    assert there.narrows
    assert not back.narrows
    assert there.narrower == back.wider != ()
    assert there.newly_allowed is there.newly_refused is None


def decides(example, *, allows, refuses):
    assert Rules(allows).decide(example.request, example.usage, at=example.at).allowed
    assert not Rules(refuses).decide(example.request, example.usage, at=example.at).allowed


EQUAL = {
    "nothing": {},
    "hours in another way": {
        "limits": {"hours": (changed(WEEK, end=600), changed(WEEK, begin=600))}
    },
    "a network in halves": {
        "limits": {"networks": ("192.0.2.0/25", "192.0.2.128/25", "2001:db8::/32")}
    },
    "IPv4 in IPv6 dress": {"limits": {"networks": ("2001:db8::/32", "::ffff:c000:200/120")}},
    "a rule in other words": {"assets": (changed(SCAN, versions=">=1.4,<1.5"), TRIAGE)},
    "a permission said twice": {"permissions": (PREDICT, EXPLAIN, PREDICT)},
    "an asset that nobody may use": {
        "assets": (SCAN, TRIAGE, document.Asset(name="spare", versions="*", digests=None))
    },
    "a rate in other words": {"limits": {"rate": document.Rate(count=1, seconds=1, burst=10)}},
}


@pytest.mark.parametrize("what", EQUAL)
def test_equal(what):
    difference = compare(OLD, amended(OLD, **EQUAL[what]))
    assert difference.relation == "equal"
    assert difference.narrows
    assert difference.newly_allowed is difference.newly_refused is None


def test_incomparable():
    new = amended(OLD, limits={"hours": (SATURDAY,)})
    difference = compare(OLD, new)
    assert difference.relation == "incomparable"
    assert not difference.narrows
    assert difference.newly_allowed.at.weekday() == 5
    assert difference.newly_refused.at.weekday() < 5
    decides(difference.newly_allowed, allows=new, refuses=OLD)
    decides(difference.newly_refused, allows=OLD, refuses=new)


def test_narrower_by_proof_and_wider_in_order_is_incomparable():
    difference = compare(OLD, amended(OLD, limits={"rows_per_request": 1}, output={"top": 6}))
    assert difference.relation == "incomparable"
    assert difference.wider == ("output.top",)
    assert not difference.narrows


def test_a_rate_can_be_both():
    rate = document.Rate(count=30, seconds=60, burst=100)
    difference = compare(OLD, amended(OLD, limits={"rate": rate}))
    assert difference.wider == difference.narrower == ("limits.rate",)
    assert difference.relation == "incomparable"


def test_without_a_rate_everything_is_faster():
    assert compare(no_rate(OLD), amended(OLD)).narrower == ("limits.rate",)
    assert compare(OLD, no_rate(OLD)).relation == "wider"
    assert compare(no_rate(OLD), no_rate(OLD)).relation == "equal"


def test_any_address_is_not_any_that_can_be_read():
    """`::/0` is every address; without networks, nobody looks, not even whether it is one."""
    old = a_charter(limits={"networks": ("::/0",)})
    new = amended(old, limits={"networks": None})
    difference = compare(old, new)
    assert difference.newly_allowed.request.address == "unreadable"
    decides(difference.newly_allowed, allows=new, refuses=old)


def test_another_partner_is_another_charter():
    difference = compare(OLD, amended(OLD, partner={"identity": RIVAL}))
    assert difference.relation == "incomparable"
    assert difference.newly_allowed.request.party == RIVAL


# --- what has no order --------------------------------------------------------------------------

OTHER = {
    "id": "c1" * 16,
    "title": "another",
    "language": "de",
    "prose": None,
    "compliance": (),
    "owner.name": "labs",
    "owner.identity": RIVAL,
    "owner.roles": ("owner",),
    "owner.contact": None,
    "partner.name": "clinics",
    "partner.contact": None,
    "purpose.prose": None,
    "purpose.basis": None,
    "data.keep_inputs_days": 1,
    "data.payload_log": "none",
    "data.train_on_inputs": True,
    "monitoring.detectors": (),
    "monitoring.ladder": OLD.monitoring.ladder[1:],
    "audit.durability": "group",
    "audit.readers": ("owner",),
    "audit.checkpoint_seconds": 3600,
    "incident.severities": OLD.incident.severities[:1],
    "incident.contacts": OLD.incident.contacts[:1],
    "exit.triggers": ("term",),
    "exit.wind_down_days": 31,
    "exit.shred": (),
    "exit.survival": (),
    "exit.outputs": "owner",
}


@pytest.mark.parametrize("path", OTHER)
def test_another_term_is_never_narrower(path):
    section, _, field = path.partition(".")
    change = {section: {field: OTHER[path]} if field else OTHER[path]}
    difference = compare(OLD, amended(OLD, **change))
    assert difference.other_terms == (path,)
    assert difference.relation == "equal"
    assert not difference.narrows


def test_every_term_is_of_one_kind():
    """A new field of a charter has to be thought about here."""
    known = [*PROVED, *FREE, *ORDERED, *OTHER]
    assert sorted(known) == sorted(paths_of(OLD))
    assert len(set(known)) == len(known)


def test_every_proved_term_is_in_a_condition():
    """What is said to be proved must move the proof."""
    for path, value in {
        "limits.networks": None,
        "limits.hours": None,
        "limits.quotas": (),
        "partner.identity": RIVAL,
        "purpose.allowed": ("diagnosis", "research", "teaching"),
        "assets": (SCAN, changed(TRIAGE, versions="*")),
        "session.proof": "none",
    }.items():
        section, _, field = path.partition(".")
        new = amended(OLD, **{section: {field: value} if field else value})
        assert compare(OLD, new).newly_allowed is not None, path
        assert path in PROVED


def test_an_example_reads_as_a_request():
    new = amended(OLD, limits={"rows_per_request": 300})
    example = compare(OLD, new).newly_allowed
    assert 257 <= example.request.rows <= 300
    assert example.usage.concurrent == 1
    assert example.at.second == 0
    text = str(example)
    for part in ("rows", "UTC", "as analyst for", "192.0.2.", "with mtls", "requests in the day"):
        assert part in text
    assert "\n" not in text


def test_an_example_in_a_session_for_another_purpose_says_so():
    example = compare(OLD, amended(OLD, ends=ENDS + DAY)).newly_allowed
    other = diff.Example(changed(example.request, session_purpose="x"), example.usage, example.at)
    assert "in a session for x" in str(other)
    nothing = diff.Example(example.request, a_usage(used={}), example.at)
    assert "not counted" in str(nothing)


def test_the_hours_of_an_example_are_those_of_its_day():
    """Weekday and minute follow from the time: no Sunday that is a Monday."""
    new = amended(OLD, limits={"hours": (*OLD.limits.hours, SATURDAY)})
    example = compare(OLD, new).newly_allowed
    assert example.at.weekday() == 5
    sunday = changed(SATURDAY, days=("sun",))
    only = {"begins": datetime(2026, 6, 1, tzinfo=UTC), "ends": datetime(2026, 6, 7, tzinfo=UTC)}
    old = a_charter(**only)
    assert compare(old, amended(old, limits={"hours": (WEEK, sunday)})).relation == "equal"


def test_out_of_time_is_out_of_proof(monkeypatch):
    z3 = pytest.importorskip("z3")
    monkeypatch.setattr(diff._Question, "_check", lambda *_: z3.unknown)
    difference = compare(OLD, amended(OLD, limits={"rows_per_request": 1}))
    assert difference.relation == "unknown"
    assert not difference.narrows
    assert difference.newly_allowed is difference.newly_refused is None


def test_an_example_that_does_not_hold_is_not_shown(monkeypatch):
    """Were the encoding wrong, nothing would be claimed."""
    monkeypatch.setattr(diff, "allows", lambda *_: True)
    difference = compare(OLD, amended(OLD, limits={"rows_per_request": 1}))
    assert difference.relation == "unknown"
    assert not difference.narrows


def test_a_short_timeout_is_never_narrower():
    new = amended(OLD, limits={"rows_per_request": 1})
    assert compare(OLD, new, timeout=timedelta(0)).relation in ("narrower", "unknown")
    assert compare(new, OLD, timeout=timedelta(0)).relation in ("wider", "unknown")


def test_without_the_extra_there_is_one_clear_error(monkeypatch):
    def missing(name):
        raise ModuleNotFoundError(name=name)

    monkeypatch.setattr(_extras.importlib, "import_module", missing)
    with pytest.raises(MissingExtraError):
        compare(OLD, OLD)


def test_paths_lead_somewhere():
    assert at(OLD, "limits.rate") == OLD.limits.rate
    assert terms.moved(OLD, OLD) == ((), ())
