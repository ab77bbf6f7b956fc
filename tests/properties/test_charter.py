"""Any charter, any request: Cedar, Python and the prover say the same, and a proof holds."""

from __future__ import annotations

import ipaddress
from datetime import UTC, datetime, timedelta
from typing import get_args

import msgspec
import pytest
from charters import (
    AT,
    BEGINS,
    CLINIC,
    DIGEST,
    ENDS,
    OTHER_DIGEST,
    RIVAL,
    a_charter,
    a_request,
    a_usage,
    amended,
    changed,
)
from hypothesis import event, given, settings
from hypothesis import strategies as st

from counterseal.charter import diff, document
from counterseal.charter.clauses import allows, clauses_of
from counterseal.charter.conditions import ENTITIES, Facts, holds
from counterseal.charter.decision import Rules
from counterseal.charter.diff import compare
from counterseal.charter.document import ACTIONS, Charter, parse
from counterseal.charter.policy import context_of
from counterseal.charter.request import Request, Usage, facts_of
from counterseal.charter.versions import VersionRule
from counterseal.wire import canonical

pytest.importorskip("cedarpy")
z3 = pytest.importorskip("z3")

NAMES = ("graph", "scan", "triage")
PURPOSES = ("diagnosis", "research", "teaching")
ROLES = ("analyst", "auditor", "steward")
RULES = ("*", "=1.4.2", "~1.4", "~1", ">=1.2,<2", ">=0.9.9,<1.4.3")
VERSIONS = ((0, 9, 8), (1, 2, 0), (1, 4, 1), (1, 4, 2), (1, 4, 3), (1, 5, 0), (2, 0, 0), (2, 0, 1))
NETWORKS = (
    "0.0.0.0/0",
    "192.0.2.0/24",
    "192.0.2.7/32",
    "2001:db8::/32",
    "2001:db8::40/122",
    "::/0",
)
ADDRESSES = (
    "192.0.2.7", "::ffff:192.0.2.7", "192.0.3.7", "255.255.255.255", "::192.0.2.7",
    "2001:db8::41", "2001:db8::80", "2001:db9::1", "fe80::1%eth0", "",
)  # fmt: skip
COUNTS = (1, 2, 3, 4, 100)
DAYS = get_args(document.Day)
EVERYTHING = {(u, p): 1 for u in get_args(document.Unit) for p in get_args(document.Period)}


def some(values, *, least=0):
    """A set, as charters write it."""
    return st.sets(st.sampled_from(values), min_size=least).map(lambda found: tuple(sorted(found)))


def or_none(strategy):
    return st.none() | strategy


counts = st.sampled_from(COUNTS)


@st.composite
def hours(draw):
    begin = draw(st.sampled_from((0, 600, 720)))
    end = draw(st.sampled_from((721, 1200, 1440)))
    return document.Hours(days=draw(some(DAYS, least=1)), begin=begin, end=end)


@st.composite
def limits(draw):
    return document.Limits(
        rows_per_request=draw(counts),
        bytes_per_request=draw(counts),
        concurrency=draw(counts),
        rate=draw(or_none(st.builds(document.Rate, count=counts, seconds=counts, burst=counts))),
        quotas=tuple(
            document.Quota(unit=unit, count=draw(counts), period=period)
            for unit, period in draw(
                st.sets(
                    st.tuples(
                        st.sampled_from(get_args(document.Unit)),
                        st.sampled_from(get_args(document.Period)),
                    ),
                    max_size=3,
                )
            )
        ),
        hours=draw(or_none(st.lists(hours(), min_size=1, max_size=3).map(tuple))),
        networks=draw(or_none(some(NETWORKS, least=1))),
    )


@st.composite
def permissions(draw, names, roles, purposes):
    return document.Permission(
        action=draw(st.sampled_from(ACTIONS[:3])),
        assets=draw(some(names, least=1)),
        roles=draw(some(roles, least=1)),
        purposes=draw(or_none(some(purposes, least=1))),
    )


@st.composite
def assets(draw):
    return tuple(
        document.Asset(
            name=name,
            versions=draw(st.sampled_from(RULES)),
            digests=draw(or_none(some((DIGEST, OTHER_DIGEST)))),
        )
        for name in draw(some(NAMES, least=1))
    )


@st.composite
def charters(draw):
    models, roles = draw(assets()), draw(some(ROLES, least=1))
    purposes = draw(some(PURPOSES, least=1))
    names = tuple(model.name for model in models)
    ladder = sorted(draw(st.sets(st.sampled_from((0, 1, 50, 100)), max_size=2)))
    done = draw(st.sampled_from((("flag", "revoke"), ("suspend", "revoke"), ("flag", "throttle"))))
    return a_charter(
        assets=models,
        partner={"roles": roles},
        purpose={
            "allowed": purposes,
            "prohibited": draw(some([one for one in PURPOSES if one not in purposes]))
            if len(purposes) < len(PURPOSES)
            else (),
        },
        permissions=tuple(
            draw(st.lists(permissions(names, roles, purposes), min_size=1, max_size=4))
        ),
        limits=draw(limits()),
        begins=draw(st.sampled_from((BEGINS, AT))),
        ends=draw(st.sampled_from((AT + timedelta(seconds=1), AT + timedelta(days=3), ENDS))),
        monitoring={
            "ladder": tuple(
                document.Rung(at=at, do=do) for at, do in zip(ladder, done, strict=False)
            )
        },
    )


amounts = st.sampled_from((0, 1, 2, 3, 4, 5, 100, 101))
moments = st.sampled_from(
    [AT + timedelta(seconds=n) for n in (-1, 0, 1, 59, 60, 28_800, 86_400, 5 * 86_400, 259_200)]
    + [BEGINS, ENDS, datetime(2026, 6, 6, 0, 0, 0, tzinfo=UTC)]
)
used = st.dictionaries(
    st.tuples(st.sampled_from(get_args(document.Unit)), st.sampled_from(get_args(document.Period))),
    amounts,
)


@st.composite
def requests(draw):
    """Mostly something that some charter would allow."""
    purpose = draw(st.sampled_from(PURPOSES))
    odd = st.sampled_from((None, "another", *PURPOSES))
    request = Request(
        party=draw(st.sampled_from((CLINIC, CLINIC, CLINIC, CLINIC, RIVAL))),
        role=draw(st.sampled_from(ROLES)),
        action=draw(st.sampled_from(ACTIONS[:4])),
        asset=draw(st.sampled_from(NAMES)),
        version=draw(st.sampled_from(VERSIONS)),
        digest=draw(st.sampled_from((DIGEST, DIGEST, OTHER_DIGEST, RIVAL))),
        session_purpose=draw(st.just(purpose) | st.just(purpose) | odd),
        purpose=draw(st.just(purpose) | st.just(purpose) | odd),
        address=draw(st.sampled_from(ADDRESSES)),
        proof=draw(st.sampled_from(("mtls", "mtls", "mtls", "none"))),
        rows=draw(amounts),
        bytes=draw(amounts),
    )
    usage = Usage(
        concurrent=draw(st.integers(1, 3)),
        risk=draw(st.sampled_from((0, 0, 1, 50, 100))),
        used=draw(st.just(EVERYTHING) | used),
    )
    return request, usage, draw(moments)


def covers(asset, version):
    return VersionRule.parse(asset.versions).covers(version)


@st.composite
def fitting(draw, charter):
    """A request that fits one permission but for at most one thing."""
    permission = draw(st.sampled_from(charter.permissions))
    asset = charter.asset(draw(st.sampled_from(permission.assets)))
    purpose = draw(st.sampled_from(permission.purposes or charter.purpose.allowed))
    request, usage, at = draw(requests())
    fit = {
        "party": CLINIC,
        "role": draw(st.sampled_from(permission.roles)),
        "action": permission.action,
        "asset": asset.name,
        "version": draw(st.sampled_from([one for one in VERSIONS if covers(asset, one)])),
        "digest": draw(st.sampled_from(asset.digests or (DIGEST,))),
        "session_purpose": purpose,
        "purpose": purpose,
        "address": "192.0.2.7",
        "proof": "mtls",
        "rows": 1,
        "bytes": 1,
    }
    odd = draw(st.sampled_from([None, None, None, "usage", "at", *fit]))
    if odd in fit:
        fit[odd] = getattr(request, odd)
    if odd != "usage":
        usage = a_usage(used=EVERYTHING)
    return Request(**fit), usage, at if odd == "at" else AT


def any_request(charter):
    return fitting(charter) | requests()


def proved(question, facts):
    """What the prover's encoding says of these facts."""
    outside = iter((diff._NOBODY, len(question._numbers)))
    numbers = {**question._numbers, "": diff._NOBODY}
    solver = question._solver
    solver.push()
    try:
        for name, value in msgspec.structs.asdict(facts).items():
            if isinstance(value, str) and value not in numbers:
                numbers[value] = next(outside) if name.endswith("purpose") else len(numbers)
            number = (
                value if isinstance(value, int) else min(numbers[value], len(question._numbers))
            )
            solver.add(z3.Int(name, question._context) == number)
        assert solver.check() == z3.sat, "these facts can be"
        return solver.check(question._name("is_new")) == z3.sat
    finally:
        solver.pop()


def as_read(charter, request, usage, at):
    """A charter as a person reads it, without any of our clauses."""
    limits, purpose = charter.limits, charter.purpose
    asset = charter.asset(request.asset)
    try:
        address = ipaddress.ip_address(request.address)
    except ValueError:
        address = None
    if getattr(address, "scope_id", None):
        address = None
    address = getattr(address, "ipv4_mapped", None) or address
    mapped = (
        ipaddress.ip_address(f"::ffff:{address}") if address and address.version == 4 else address
    )
    counts = usage.used
    return (
        request.party == charter.partner.identity
        and charter.begins <= at < charter.ends
        and request.purpose == request.session_purpose
        and request.purpose in set(purpose.allowed) - set(purpose.prohibited)
        and asset is not None
        and covers(asset, request.version)
        and (asset.digests is None or request.digest in asset.digests)
        and any(
            request.action == one.action
            and request.role in one.roles
            and request.asset in one.assets
            and (one.purposes is None or request.purpose in one.purposes)
            for one in charter.permissions
        )
        and request.rows <= limits.rows_per_request
        and request.bytes <= limits.bytes_per_request
        and usage.concurrent <= limits.concurrency
        and all(
            (one.unit, one.period) in counts and counts[one.unit, one.period] <= one.count
            for one in limits.quotas
        )
        and (
            limits.hours is None
            or any(
                f"{at:%a}".lower() in one.days and one.begin <= at.hour * 60 + at.minute < one.end
                for one in limits.hours
            )
        )
        and (
            limits.networks is None
            or any(
                one in ipaddress.ip_network(network)
                for network in limits.networks
                for one in (address, mapped)
                if one is not None
            )
        )
        and request.proof == charter.session.proof
        and not any(
            usage.risk >= rung.at
            for rung in charter.monitoring.ladder
            if rung.do in ("suspend", "revoke")
        )
    )


@given(st.data())
@settings(max_examples=300)
def test_the_clauses_say_what_the_charter_says(data):
    charter = data.draw(charters())
    clauses = clauses_of(charter)
    for request, usage, at in data.draw(st.lists(any_request(charter), min_size=1, max_size=8)):
        facts = facts_of(request, usage, at=at)
        assert allows(clauses, facts) == as_read(charter, request, usage, at)


@given(st.sampled_from(RULES), st.tuples(*[st.integers(0, 5)] * 3) | st.sampled_from(VERSIONS))
def test_versions_are_compared_as_versions(rule, number):
    charter = a_charter(assets=(changed(a_charter().assets[0], versions=rule),), permissions=())
    clause = next(one for one in clauses_of(charter).always if one.path == "assets[0].versions")
    facts = facts_of(a_request(version=number), a_usage(), at=AT)
    assert holds(clause.condition, facts) == VersionRule.parse(rule).covers(number)


@given(st.sampled_from(NETWORKS), st.ip_addresses())
def test_networks_are_compared_as_networks(network, address):
    clauses = clauses_of(a_charter(limits={"networks": (network,)})).always
    clause = next(one for one in clauses if one.path == "limits.networks")
    parsed = ipaddress.ip_network(network)
    edges = [address, parsed[0], parsed[-1]]
    if int(parsed[0]) > 0 and parsed.prefixlen:
        edges += [parsed[0] - 1, parsed[-1] + 1]
    for one in edges:
        facts = facts_of(a_request(address=str(one)), a_usage(), at=AT)
        assert holds(clause.condition, facts) == (one in parsed or network == "::/0")


@given(hours())
def test_hours_are_from_begin_to_before_end(hour):
    clauses = clauses_of(a_charter(limits={"hours": (hour,)})).always
    clause = next(one for one in clauses if one.path == "limits.hours")
    for day in range(7):
        midnight = datetime(2026, 6, 1 + day, tzinfo=UTC)
        for minute in {hour.begin - 1, hour.begin, hour.end - 1, hour.end} & set(range(1440)):
            moment = midnight + timedelta(minutes=minute, seconds=59)
            facts = facts_of(a_request(), a_usage(), at=moment)
            inside = DAYS[day] in hour.days and hour.begin <= minute < hour.end
            assert holds(clause.condition, facts) == inside


@given(st.data())
@settings(max_examples=150)
def test_cedar_python_and_the_prover_say_the_same(data):
    charter = data.draw(charters())
    rules, clauses = Rules(charter), clauses_of(charter)
    question = diff._Question(charter, charter, diff.TIMEOUT)
    for request, usage, at in data.draw(st.lists(any_request(charter), min_size=1, max_size=8)):
        facts = facts_of(request, usage, at=at)
        expected = allows(clauses, facts)
        event(f"allowed: {expected}")
        decision = rules.decide(request, usage, at=at)
        assert decision.allowed == rules._ask(facts).allowed == expected
        assert proved(question, facts) == expected
        assert bool(decision.policies) == expected
        assert bool(decision.reasons) != expected
        assert all(reason.path != "policy" for reason in decision.reasons)


@given(st.data())
@settings(max_examples=60)
def test_what_is_remembered_is_what_would_be_decided(data):
    """The same claim again and again, with other amounts, at other times."""
    charter = data.draw(charters())
    rules, clauses = Rules(charter), clauses_of(charter)
    request, usage, at = data.draw(fitting(charter))
    rules.decide(request, usage, at=at)
    for _ in range(10):
        other, usage, at = data.draw(requests())
        request = msgspec.structs.replace(request, rows=other.rows, bytes=other.bytes)
        expected = allows(clauses, facts_of(request, usage, at=at))
        assert rules.decide(request, usage, at=at).allowed == expected


@given(st.data())
@settings(max_examples=60)
def test_a_missing_fact_is_a_denial(data):
    charter = data.draw(charters())
    request, usage, at = data.draw(fitting(charter))
    rules, facts = Rules(charter), facts_of(request, usage, at=at)
    event(f"allowed: {rules._ask(facts).allowed}")
    everything = rules._context
    for name in everything:
        rules._context = tuple(one for one in everything if one != name)
        assert not rules._ask(facts).allowed, name
    assert (
        set(everything)
        == set(context_of(charter))
        <= set(Facts.__struct_fields__) - ENTITIES.keys()
    )


@st.composite
def changes(draw, charter):
    """Two or three sections of another charter."""
    other = draw(charters())
    name = draw(st.sampled_from(("limits", "term", "one limit", "permissions", "assets", "all")))
    match name:
        case "limits":
            return amended(charter, limits=other.limits)
        case "term":
            return amended(charter, begins=other.begins, ends=other.ends)
        case "one limit":
            field = draw(st.sampled_from(document.Limits.__struct_fields__))
            return amended(charter, limits={field: getattr(other.limits, field)})
        case "permissions":
            kept = draw(st.integers(1, len(charter.permissions)))
            return amended(charter, permissions=charter.permissions[:kept])
        case "assets":
            digests = draw(or_none(some((DIGEST, OTHER_DIGEST))))
            return amended(
                charter, assets=tuple(changed(one, digests=digests) for one in charter.assets)
            )
    return msgspec.structs.replace(other, version=2, previous=charter.digest)


@given(st.data())
@settings(max_examples=100)
def test_what_is_proved_narrower_allows_nothing_new(data):
    old = data.draw(charters())
    new = data.draw(changes(old))
    difference = compare(old, new)
    was, will = clauses_of(old), clauses_of(new)
    assert difference.relation != "unknown"
    for request, usage, at in data.draw(
        st.lists(any_request(old) | any_request(new), min_size=1, max_size=20)
    ):
        facts = facts_of(request, usage, at=at)
        if allows(will, facts) and not allows(was, facts):
            assert difference.newly_allowed is not None
            assert difference.relation in ("wider", "incomparable")
        if allows(was, facts) and not allows(will, facts):
            assert difference.newly_refused is not None
            assert difference.relation in ("narrower", "incomparable")
    for example, allowing, refusing in (
        (difference.newly_allowed, new, old),
        (difference.newly_refused, old, new),
    ):
        if example is not None:
            asked = example.request, example.usage
            assert Rules(allowing).decide(*asked, at=example.at).allowed, str(example)
            assert not Rules(refusing).decide(*asked, at=example.at).allowed, str(example)
    assert compare(new, old).newly_allowed is None or difference.newly_refused is not None


@given(charters())
def test_one_charter_has_one_form(charter):
    assert parse(canonical.encode(charter)) == charter
    assert isinstance(charter, Charter)


def test_the_honest_request_is_allowed():
    """Else the rest would prove little."""
    assert Rules(a_charter()).decide(a_request(), a_usage(), at=AT).allowed
