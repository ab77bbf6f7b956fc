"""Whatever goes wrong in a gateway, it says no: at every stage, and for every part left out."""

import os
from contextlib import suppress
from dataclasses import replace

import msgspec
import pytest
from gateway import PURPOSE, Town, body_of
from hypothesis import example, given, settings
from hypothesis import strategies as st

from counterseal.errors import CountersealError, FormatError
from counterseal.gateway import oip, outputs
from counterseal.gateway.desk import Desk
from counterseal.gateway.quota import Quotas
from counterseal.gateway.revocations import Revoked
from counterseal.gateway.served import Served
from counterseal.gateway.sessions import Sessions
from counterseal.gateway.shared import Shared
from counterseal.ledger.ledger import Ledger

pytest.importorskip("skl2onnx")


@pytest.fixture(scope="module", params=["group", "strict"])
def gate(request, tmp_path_factory):
    with Town(tmp_path_factory.mktemp("town")) as town:
        limits = {"networks": ("127.0.0.0/8",)}
        gate = town.open(audit={"durability": request.param}, limits=limits)
        gate.ticket = gate.session()
        yield gate


def broken(gate, place):
    from counterseal.charter.decision import Rules

    return {
        "what changed": (Desk, "sync"),
        "the session": (Sessions, "find"),
        "session and charter": (Desk, "check"),
        "what was revoked": (Revoked, "check"),
        "the card": (Desk, "check_pinned"),
        "the charter's state": (Served, "check_active"),
        "the model": (Desk, "choose"),
        "what was revoked of it": (Revoked, "check_model"),
        "the rate": (Desk, "admit"),
        "the record": (Desk, "first_time"),
        "how many run": (Shared, "enter"),
        "the quota": (Quotas, "reserve"),
        "the decision": (Rules, "decide"),
        "the rung": (Desk, "check_rung"),
        "the controls": (Desk, "controls"),
        "the answer": (type(gate.desk.registry.offers["scan"]["1.0.0"].backend), "predict"),
        "what leaves of it": (outputs, "control"),
        "its encoding": (oip, "encode"),
        "what was used": (Quotas, "settle"),
        "the ledger": (Ledger, "note"),
    }[place]


PLACES = (
    "what changed", "the session", "session and charter", "what was revoked", "the card",
    "the charter's state", "the model", "what was revoked of it", "the rate", "the record",
    "how many run", "the quota", "the decision", "the rung", "the controls", "the answer",
    "what leaves of it", "its encoding", "what was used", "the ledger",
)  # fmt: skip
ERRORS = {
    "of ours": FormatError("a test"),
    "of a programmer": KeyError("secret"),
    "of the system": OSError("secret"),
}


@pytest.mark.parametrize("kind", ERRORS)
@pytest.mark.parametrize("place", PLACES)
def test_an_error_at_any_stage_is_a_no(gate, place, kind):
    owner, name = broken(gate, place)

    def fails(*_, **__):
        raise ERRORS[kind]

    before = gate.used()
    record = os.urandom(16).hex()
    with pytest.MonkeyPatch.context() as patch, suppress(type(ERRORS[kind])):
        patch.setattr(owner, name, fails)
        answer = gate.answer(gate.ticket, record=record)
        assert answer.status != 200
        assert answer.body == b""
        assert "secret" not in f"{answer.refused}"
    ran = place in {"the ledger", "what was used"}  # then the model has answered
    assert gate.used() - before <= ran
    assert gate.desk.shared.enter(gate.served.slot, limit=100) == 1  # nothing runs any more
    gate.desk.shared.leave(gate.served.slot)
    assert gate.call(gate.ticket)


FIELDS = ("certificate", "token", "purpose", "model", "address", "body")
JUNK = st.sampled_from([None, "", "x", "\x00", "é" * 40, "ab" * 32, "cs1...", "10.0.0.1"])


@settings(max_examples=60)
@given(st.dictionaries(st.sampled_from(FIELDS), JUNK, min_size=1))
def test_nothing_is_answered_with_any_part_missing_or_another(gate, changes):
    if "body" in changes:
        changes["body"] = (changes["body"] or "").encode()
    if "address" in changes:
        changes["address"] = changes["address"] or ""
    assert gate.answer(gate.ticket, **changes).status != 200


@settings(max_examples=60)
@given(st.data())
def test_nothing_is_answered_with_any_letter_of_a_token_changed(gate, data):
    ticket = gate.ticket
    name = data.draw(st.sampled_from(["token", "certificate"]))
    text = getattr(ticket, name)
    at = data.draw(st.integers(0, len(text) - 1))
    letter = data.draw(st.characters(min_codepoint=33, max_codepoint=255))
    changed = text[:at] + letter + text[at + 1 :]
    if changed == text:
        return
    assert gate.answer(replace(ticket, **{name: changed})).status == 401


ASKED = msgspec.json.decode(body_of(2))


def paths(value, path=()):
    """The way to each part of a document, but the single numbers of its data."""
    if path:
        yield path
    if isinstance(value, dict):
        for key, one in value.items():
            yield from paths(one, (*path, key))
    elif isinstance(value, list) and len(value) < 3:
        for number, one in enumerate(value):
            yield from paths(one, (*path, number))


def changed(value, path, new):
    if not path:
        return new
    made = dict(value) if isinstance(value, dict) else list(value)
    if new is ... and len(path) == 1:
        del made[path[0]]
    else:
        made[path[0]] = changed(value[path[0]], path[1:], new)
    return made


WRONG = [..., None, True, False, -1, 0, 7.5, "7", "NaN", [], {}, [[]], "FP64", 1 << 70]


@settings(max_examples=150)
@given(st.sampled_from(list(paths(ASKED))), st.sampled_from(WRONG))
@example(("inputs",), ...)
@example(("inputs", 0, "shape"), ...)
def test_nothing_is_answered_with_any_field_of_the_body_missing_or_wrong(gate, path, wrong):
    body = msgspec.json.encode(changed(ASKED, path, wrong))
    answer = gate.answer(gate.ticket, body)
    assert answer.status == 400, (path, wrong, answer.status)


@settings(max_examples=60)
@given(st.data())
def test_no_session_is_opened_by_a_request_with_any_byte_changed(gate, data):
    request = gate.ask()
    at = data.draw(st.integers(0, len(request) - 1))
    bit = data.draw(st.integers(0, 7))
    forged = bytearray(request)
    forged[at] ^= 1 << bit
    with pytest.raises(CountersealError):
        gate.open(bytes(forged))


@settings(max_examples=40)
@given(
    st.lists(
        st.sampled_from([PURPOSE, "research", "advertising", "", None]), min_size=2, max_size=2
    )
)
def test_a_call_has_exactly_the_purpose_of_its_session(gate, said):
    """In a header, in the body, or in both; whatever else is said, it is a no."""
    header, body = said
    more = {} if not body else {"purpose": body}
    answer = gate.answer(gate.ticket, body_of(**more), purpose=header)
    named = {one for one in (header, body) if one}
    assert (answer.status == 200) == (named == {PURPOSE} and not (header == "" and body))
