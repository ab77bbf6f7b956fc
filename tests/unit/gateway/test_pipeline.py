"""One request through all stages of a real worker."""

import asyncio
import threading
from dataclasses import replace

import msgspec
import pytest
from gateway import PURPOSE, Town, body_of, onnx_model

from counterseal.charter.document import Permission, Quota, Rate
from counterseal.gateway.backends.seam import Completion, Piece
from counterseal.gateway.registry import Offer
from counterseal.gateway.tensors import Limits
from counterseal.gateway.textwork import read_chat
from counterseal.ledger.entry import commitment

pytest.importorskip("skl2onnx")


@pytest.fixture
def town(tmp_path):
    with Town(tmp_path) as made:
        yield made


def test_an_answer_has_a_receipt_that_the_ledger_shows(town):
    gate = town.open()
    ticket, body = gate.session(), body_of(2)
    answer = gate.answer(ticket, body)
    headers = dict(answer.headers)
    (entry,) = [one for one in gate.entries() if one.event == "call"]
    assert entry.id == headers[b"counterseal-record"].decode() == answer.record
    key = bytes.fromhex(headers[b"counterseal-record-key"].decode())
    assert entry.commit_in == commitment(key, "in", body)
    assert entry.commit_out == commitment(key, "out", answer.body)
    charter = town.chain.charter
    assert headers[b"counterseal-charter"].decode() == f"{charter.id}/1"
    assert (entry.actor, entry.purpose) == (town.clinic.history.identity, PURPOSE)
    assert entry.rows == 2
    assert (
        entry.session
        == gate.desk.sessions.find(ticket.token, ticket.certificate, at=gate.now()).digest
    )


def test_the_answer_is_the_models(town):
    import onnxruntime

    gate = town.open()
    answer = msgspec.json.decode(gate.answer(gate.session(), body_of(3)).body)
    direct = onnxruntime.InferenceSession(onnx_model()[0]).run(
        ["label"], {"X": onnx_model()[1][:3]}
    )
    label = next(one for one in answer["outputs"] if one["name"] == "label")
    assert label["data"] == direct[0].tolist()
    assert (answer["model_name"], answer["model_version"]) == ("scan", "1.0.0")


def test_the_quota_of_which_least_is_left_is_in_the_headers(town):
    quotas = (
        Quota(unit="requests", count=100, period="day"),
        Quota(unit="rows", count=7, period="hour"),
    )
    gate = town.open(limits={"quotas": quotas})
    headers = dict(gate.answer(gate.session(), body_of(3)).headers)
    assert headers[b"ratelimit-limit"] == b"7"
    assert headers[b"ratelimit-remaining"] == b"4"
    assert 0 < int(headers[b"ratelimit-reset"]) <= 3600


def test_a_refusal_says_where_the_charter_says_so_and_takes_nothing(town):
    gate = town.open(limits={"quotas": (Quota(unit="rows", count=5, period="day"),)})
    ticket = gate.session()
    gate.call(ticket, body_of(3))
    answer = gate.answer(ticket, body_of(3))
    assert answer.status == 429
    said = msgspec.json.decode(answer.refused.body(answer.record))
    assert said["policy"] == "limits.quotas[0]"
    assert said["instance"].endswith(answer.record)
    assert answer.refused.retry_after > 0
    assert gate.used("rows") == 3
    assert gate.call(ticket, body_of(2))
    refused = next(one for one in gate.entries() if one.event == "refused")
    assert refused.reason == "limits.quotas[0]"
    assert refused.decision == "deny"


def test_a_rate_says_how_long_to_wait(town):
    gate = town.open(limits={"rate": Rate(count=1, seconds=30, burst=1)})
    ticket = gate.session()
    gate.call(ticket)
    refused = gate.answer(ticket).refused
    assert refused.policy == "limits.rate"
    assert 25 <= refused.retry_after <= 31


def test_a_request_beyond_its_rate_is_not_remembered(town):
    """Else a flood of ids would leave no room for those of others."""
    gate = town.open(limits={"rate": Rate(count=1, seconds=30, burst=1)})
    ticket = gate.session()
    gate.call(ticket)
    from counterseal.gateway import shared

    before = gate.desk.shared._words[shared._HELD]
    for number in range(20):
        assert gate.answer(ticket, record=f"{number:032x}").status == 429
    assert gate.desk.shared._words[shared._HELD] == before


@pytest.mark.parametrize("record", ["", "xyz", "ab" * 15, "ab" * 17, "gg" * 16, " " * 32])
def test_a_record_id_is_32_hex_characters(town, record):
    gate = town.open()
    assert gate.answer(gate.session(), record=record).status == 400


def test_in_strict_mode_the_intent_is_durable_before_the_model_runs(town):
    gate = town.open(audit={"durability": "strict"})
    offers = gate.desk.registry.offers["scan"]
    seen = []

    class Looks:
        platform = "test"
        inputs, outputs = offers["1.0.0"].backend.inputs, offers["1.0.0"].backend.outputs

        def predict(self, inputs):
            seen.append(gate.served.ledger.size)
            return backend.predict(inputs)

    backend = offers["1.0.0"].backend
    offers["1.0.0"] = replace(offers["1.0.0"], backend=Looks())
    ticket = gate.session()
    gate.served.ledger.settle()
    before = gate.served.ledger.size
    assert gate.call(ticket)
    assert seen == [before + 1]
    assert gate.served.ledger.size == before + 2  # the call was durable, too, when it returned
    assert gate.events() == ["session", "intent", "call"]


def test_a_request_that_is_cut_off_gives_back_what_it_took(town):
    gate = town.open()
    ticket = gate.session()
    runs, goes_on = threading.Event(), threading.Event()
    offers = gate.desk.registry.offers["scan"]
    backend = offers["1.0.0"].backend

    class Waits:
        platform = "test"
        inputs, outputs = backend.inputs, backend.outputs

        def predict(self, inputs):
            runs.set()
            goes_on.wait(20)
            return backend.predict(inputs)

    offers["1.0.0"] = replace(offers["1.0.0"], backend=Waits())

    async def cut_off():
        task = asyncio.create_task(gate.pipeline.call(gate.arrival(ticket)))
        await asyncio.to_thread(runs.wait, 20)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        goes_on.set()

    asyncio.run(cut_off())
    assert gate.used() == 0
    assert gate.desk.shared.enter(gate.served.slot, limit=9) == 1


def test_a_shadow_sees_a_copy_and_answers_nobody(town):
    town.models["scan@1.0.1"] = town.models["scan@1.0.0"]
    gate = town.open()
    owner = gate.visitor(gate.owner())
    asyncio.run(gate.office.point(owner, "scan", "default", "1.0.0"))
    asyncio.run(gate.office.try_out(owner, "scan", "1.0.1", permille=0, shadow=True))
    answer = msgspec.json.decode(gate.answer(gate.session()).body)
    gate.pool.shutdown()
    assert answer["model_version"] == "1.0.0"
    assert 'same="true",version="1.0.1"} 1.0' in gate.office.metrics(owner).decode()


class Chats:
    """Answers with these pieces; raises at the end, if it should."""

    platform = "test"

    def __init__(self, fails=None):
        self.fails = fails

    def complete(self, prompt):
        return Completion("hello", 5, 7, "stop")

    def stream(self, prompt):
        yield Piece("hel")
        yield Piece("lo")
        if self.fails is not None:
            raise self.fails
        yield Piece("", "stop", 5, 7)


CHAT = msgspec.json.encode(
    {
        "model": "scan",
        "messages": [{"role": "user", "content": "hi"}],
        "stream": True,
        "max_tokens": 50,
    }
)


def chatting(town, backend):
    quotas = (Quota(unit="tokens", count=10_000, period="day"),)
    gate = town.open(limits={"quotas": quotas})
    gate.desk.registry.offers["scan"]["1.0.0"] = Offer.of("scan", (1, 0, 0), "d1" * 32, backend)
    arrival = gate.arrival(
        gate.session(), CHAT, model=None, read=lambda body: read_chat(body, limits=Limits())
    )
    return gate, arrival


def test_a_stream_is_one_call_and_pays_for_what_it_used(town):
    gate, arrival = chatting(town, Chats())
    answer = gate.answer_to(arrival)
    assert answer.body.count(b"data: ") >= 4
    key = bytes.fromhex(answer.body.rpartition(b"counterseal-record-key ")[2].strip().decode())
    (entry,) = [one for one in gate.entries() if one.event == "call"]
    sent = answer.body.rpartition(b": counterseal-record-key")[0]
    assert entry.commit_out == commitment(key, "out", sent)
    assert gate.used("tokens") == 12


@pytest.mark.parametrize("error", [RuntimeError("layer 7"), KeyError("x")])
def test_a_stream_that_breaks_was_a_call_and_says_nothing_of_why(town, error, capsys):
    gate, arrival = chatting(town, Chats(error))
    answer = gate.answer_to(arrival)
    assert b"the model failed" in answer.body
    assert b"layer" not in answer.body
    assert "layer 7" in capsys.readouterr().err or not str(error).startswith("layer")
    assert gate.events() == ["session", "call", "refused"]
    assert gate.used("tokens") > 0
    assert gate.desk.shared.enter(gate.served.slot, limit=9) == 1


def test_a_stream_that_nobody_hears_out_was_a_call(town):
    gate, arrival = chatting(town, Chats())

    async def leaves():
        answer = await gate.pipeline.call(arrival)
        pieces = answer.stream
        await anext(pieces)
        await pieces.aclose()

    asyncio.run(leaves())
    assert gate.events() == ["session", "call"]
    assert gate.used("tokens") > 0


def test_what_is_revoked_cuts_a_stream(town):
    gate, arrival = chatting(town, Chats())

    async def half():
        answer = await gate.pipeline.call(arrival)
        found = [await anext(answer.stream)]
        owner = gate.visitor(gate.owner())
        await gate.office.revoke(owner, "model", "scan", reason=None, lift=False)
        await gate.office.revoke(
            owner, "charter", town.chain.charter.id, reason="enough", lift=False
        )
        return found + [piece async for piece in answer.stream]

    pieces = asyncio.run(half())
    assert b"suspended by the owner" in pieces[-1]
    assert b"lo" not in b"".join(pieces[1:-1])


def test_a_partner_may_call_what_another_permission_does_not_cover(town):
    """Embeddings are another action than predictions."""
    permission = Permission(action="embed", assets=("scan",), roles=("analyst",), purposes=None)
    gate = town.open(permissions=(permission,))
    answer = gate.answer(gate.session())
    assert answer.status == 403
    assert answer.refused.policy.startswith("permissions")
