"""A gateway as real processes, over real TLS: other people's clients, several workers, kills,
restarts, amendments while it serves, and two nodes on a real PostgreSQL."""

import contextlib
import json
import os
import shutil
import signal
import ssl
import subprocess
import threading
import time

import msgspec
import numpy as np
import pytest
from gateway import PURPOSE, Town, body_of, free_port, onnx_model
from postgres import Cluster, why_no_postgres
from serving import Caller, Upstream, crowd, is_alive, wait_until, workers_of

from counterseal.charter import signing
from counterseal.charter.document import Asset, Permission, Quota
from counterseal.jobs import ledger as ledgers
from counterseal.trust.home import Home

SOON = 10  # seconds: what is announced counts with the next request, what is not within a second
CHAT = {
    "assets": tuple(Asset(name=name, versions="~1.0", digests=None) for name in ("chat", "scan")),
    "permissions": tuple(
        Permission(action=action, assets=assets, roles=("analyst",), purposes=None)
        for action, assets in (("embed", ("chat",)), ("predict", ("chat", "scan")))
    ),
}


@pytest.fixture
def town(tmp_path):
    with Town(tmp_path) as town, contextlib.ExitStack() as town.lines:
        yield town


def quotas(**counts):
    """requests=100: so many for the whole term."""
    found = tuple(Quota(unit=unit, count=count, period="term") for unit, count in counts.items())
    return {"limits": {"quotas": found, "concurrency": 64}}


def command(town, name, *arguments):
    """`counterseal ARGUMENTS` of an organization, to its end; what it printed."""
    return town.start(name, *arguments).finish()


def entries(town):
    """What stands in the charter's ledger at home, every signature and entry verified."""
    with (
        contextlib.closing(Home(town.home("lab"))) as home,
        ledgers.local(town.chain.charter.id, home=home, owner="lab") as fetch,
    ):
        _, found = ledgers.show(fetch, owner=town.lab.history, last=100_000)
    return [entry for _, entry in found]


def usage(town):
    return json.loads(command(town, "lab", "--json", "charter", "usage", town.chain.charter.id))


# Other people's clients


def test_tritonclient_calls_by_json_and_by_bytes(town):
    triton = pytest.importorskip("tritonclient.http")
    caller = Caller(town, town.serve().port)
    folder = caller.folder()
    tls = ssl.create_default_context(cafile=folder / "authority.pem")
    tls.load_cert_chain(folder / "certificate.pem", folder / "key.pem")
    client = triton.InferenceServerClient(
        f"localhost:{caller.port}", ssl=True, ssl_context_factory=lambda: tls
    )
    token = {"Authorization": f"Bearer {(folder / 'token').read_text()}"}
    assert client.is_server_live()
    assert client.is_server_ready()
    assert client.is_model_ready("scan", headers=token)
    assert client.get_server_metadata()["extensions"] == ["binary_tensor_data"]
    told = client.get_model_metadata("scan", headers=token)
    assert told["inputs"] == [{"name": "X", "datatype": "FP32", "shape": [-1, 30]}]

    rows = onnx_model()[1][:5]
    answers = []
    for inputs in (False, True):
        for outputs in (False, True):
            tensor = triton.InferInput("X", rows.shape, "FP32")
            tensor.set_data_from_numpy(rows, binary_data=inputs)
            wanted = [
                triton.InferRequestedOutput(name, binary_data=outputs)
                for name in ("label", "probabilities")
            ]
            headers = {**token, "Counterseal-Purpose": PURPOSE}
            answer = client.infer("scan", [tensor], outputs=wanted, headers=headers)
            answers.append([answer.as_numpy(one.name()) for one in wanted])
            assert answer.get_response()["model_version"] == "1.0.0"
    for labels, scores in answers:
        np.testing.assert_array_equal(labels, answers[0][0])
        np.testing.assert_array_equal(scores, answers[0][1])
    assert answers[0][1].shape == (5, 2)

    tensor = triton.InferInput("X", rows.shape, "FP32")
    tensor.set_data_from_numpy(rows)
    with pytest.raises(triton.InferenceServerException) as caught:
        client.infer("scan", [tensor], headers={**token, "Counterseal-Purpose": "advertising"})
    assert caught.value.status() == "403"
    client.close()


def openai_client(caller):
    openai = pytest.importorskip("openai")
    folder = caller.folder()
    tls = ssl.create_default_context(cafile=folder / "authority.pem")
    tls.load_cert_chain(folder / "certificate.pem", folder / "key.pem")
    return openai, openai.OpenAI(
        base_url=f"https://localhost:{caller.port}/v1",
        api_key=caller.opened.grant.token,
        default_headers={"Counterseal-Purpose": PURPOSE},
        http_client=openai.DefaultHttpxClient(verify=tls),
    )


def test_the_openai_client_embeds_chats_and_streams_and_knows_our_refusals(town):
    town.agree(**CHAT, **quotas(tokens=2000, requests=14))
    with Upstream(town) as upstream:
        openai, client = openai_client(Caller(town, town.serve(f"chat@1.0.0={upstream.url}").port))
        assert {one.id for one in client.models.list()} == {"scan", "chat"}
        texts = ["one", "three"]
        for form in ("float", "base64"):
            answer = client.embeddings.create(model="chat", input=texts, encoding_format=form)
            vectors = [one.embedding for one in answer.data]
            if form == "base64":
                vectors = [np.frombuffer(_from_base64(one), "<f4").tolist() for one in vectors]
            assert vectors == [[3.0, 0.5], [5.0, 0.5]]
        assert client.embeddings.create(model="chat@1.0.0", input="x").data[0].embedding[0] == 1

        said = [{"role": "user", "content": "a shadow on the lung"}]
        whole = client.chat.completions.create(model="chat", messages=said, max_tokens=50)
        assert whole.choices[0].message.content == "a shadow on the lung"
        assert whole.usage.completion_tokens == 5
        pieces = client.chat.completions.create(
            model="chat",
            messages=said,
            max_completion_tokens=50,
            stream=True,
            stream_options={"include_usage": True},
            metadata={"purpose": PURPOSE},
        )
        text, used = "", None
        for piece in pieces:
            used = piece.usage or used
            text += "".join(choice.delta.content or "" for choice in piece.choices)
        assert text.split() == ["a", "shadow", "on", "the", "lung"]
        assert used.completion_tokens == 5

        with pytest.raises(openai.PermissionDeniedError):
            client.embeddings.create(
                model="chat", input="x", extra_headers={"Counterseal-Purpose": "advertising"}
            )
        with pytest.raises(openai.NotFoundError):
            client.embeddings.create(model="payroll", input="x")
        with pytest.raises(openai.BadRequestError, match="tools"):
            client.chat.completions.create(
                model="chat", messages=said, tools=[{"type": "function", "function": {"name": "f"}}]
            )
        with pytest.raises(openai.RateLimitError) as caught:
            client.chat.completions.create(model="chat", messages=said, max_tokens=5000)
        assert caught.value.code == "charter_quota"
        assert caught.value.param == "limits.quotas[0]"
        with pytest.raises(openai.RateLimitError) as caught:
            [client.embeddings.create(model="chat", input="x") for _ in range(30)]
        assert caught.value.param == "limits.quotas[1]"
        stranger = client.with_options(api_key="cs1.nonsense")
        with pytest.raises(openai.AuthenticationError):
            stranger.embeddings.create(model="chat", input="x")
        client.close()
    found = usage(town)
    used = {one["unit"]: one["used"] for one in found["quotas"]}
    assert used["requests"] == 14


def _from_base64(text):
    import base64

    return base64.b64decode(text) if isinstance(text, str) else np.asarray(text, "<f4").tobytes()


@pytest.mark.skipif(shutil.which("curl") is None, reason="curl is not installed")
def test_curl_calls_with_the_file_of_a_session(town):
    caller = Caller(town, town.serve().port)
    folder = caller.folder()
    (town.folder / "asked.json").write_bytes(body_of(3))

    def curl(*more):
        done = subprocess.run(
            ["curl", "-sS", "-K", folder / "curl.conf", *more],
            cwd=town.folder, capture_output=True, text=True, check=True, timeout=60,
        )  # fmt: skip
        return json.loads(done.stdout)

    where = f"https://localhost:{caller.port}/v2/models/scan"
    assert curl(where)["name"] == "scan"
    assert curl("-d", "@asked.json", f"{where}/infer")["outputs"][0]["shape"] == [3]
    assert curl("-d", "@asked.json", f"{where}/versions/1.0.0/infer")["model_version"] == "1.0.0"
    assert curl("-d", "{}", f"{where}/infer")["status"] == 400
    stolen = subprocess.run(
        ["curl", "-s", "-k", "-H", f"Authorization: Bearer {caller.opened.grant.token}", where],
        capture_output=True, text=True, check=True, timeout=60,
    )  # fmt: skip
    assert json.loads(stolen.stdout)["status"] == 401


# Several workers


@pytest.mark.parametrize(("unit", "rows"), [("requests", 1), ("rows", 3)])
def test_four_workers_answer_exactly_what_was_agreed(town, unit, rows):
    town.agree(**quotas(**{unit: 90 * rows}))
    caller = Caller(town, town.serve("--workers", "4").port)
    ask = caller.ask
    counted, _ = crowd(caller, threads=8, calls=90, until=429, body=body_of(rows))
    assert counted[200] == 90
    assert set(counted) <= {200, 429}
    assert ask(body_of(rows)).status == 429
    assert usage(town)["quotas"][0]["used"] == 90 * rows


def test_a_worker_is_killed_and_never_more_than_the_quota_is_answered(town):
    town.agree(**quotas(requests=400))
    running = town.serve("--workers", "4")
    caller = Caller(town, running.port)
    victim = workers_of(running)[1]
    counted, _ = crowd(
        caller, threads=8, calls=400, until=429, meanwhile=lambda: os.kill(victim, signal.SIGKILL)
    )
    assert counted[200] <= 400
    running.until("another one starts")
    wait_until(lambda: len(workers_of(running)) == 4)
    # Of the killed worker's lease nobody has anything; but the gateway goes on, and says so.
    assert caller.again().ask().status == 429
    assert caller.get("/v2/models/scan").status == 200
    assert sum(one.event == "call" for one in _after(town, running)) <= 400


def _after(town, running):
    """The ledger, once the gateway has ended in order."""
    running.end()
    return entries(town)


def test_what_is_suspended_is_refused_by_every_worker_with_its_next_request(town):
    town.agree(**quotas(requests=1000))
    running = town.serve("--workers", "4")
    several = Caller(town, running.port).several()
    assert {one.ask().status for one in several} == {200}
    for grain, subject in (("partner", "clinic"), ("version", "scan@1.0.0"), ("model", "scan")):
        command(town, "lab", "gateway", "suspend", grain, subject, "--reason", "a question")
        answers = [one.ask() for one in several]
        assert {one.status for one in answers} == {403}
        assert b"a question" in answers[0].body
        command(town, "lab", "gateway", "resume", grain, subject)
        assert {one.ask().status for one in several} == {200}
    other = Caller(town, running.port)
    session = other.opened.grant.session
    command(town, "lab", "gateway", "suspend", "session", session)
    assert {one.ask().status for one in other.several()} == {401}
    assert {one.ask().status for one in several} == {200}
    found = [one.action for one in _after(town, running) if one.event == "incident"]
    assert found == [
        "suspend-partner", "lift-partner", "suspend-version", "lift-version",
        "suspend-model", "lift-model", "suspend-session",
    ]  # fmt: skip


# Ends and beginnings


def test_sigterm_answers_what_runs_and_a_restart_goes_on(town):
    data = onnx_model()[0]
    town.models = {"scan@1.0.0": data, "scan@1.0.1": data + b"\x5a\x01x"}
    town.agree(**CHAT, **quotas(requests=30, tokens=100_000))
    with Upstream(town, slow=0.2) as upstream:
        running = town.serve(f"chat={upstream.url}", "--workers", "2")
        caller = Caller(town, running.port)
        command(town, "lab", "gateway", "alias", "scan", "--to", "1.0.0")
        assert [caller.ask().status for _ in range(9)] == [200] * 9
        slow = {"model": "chat", "messages": [{"role": "user", "content": "one two three four"}]}
        late = []
        asking = threading.Thread(
            target=lambda: late.append(
                caller.again().ask(msgspec.json.encode(slow), path="/v1/chat/completions")
            )
        )
        asking.start()
        wait_until(lambda: usage(town)["quotas"][1]["used"] > 0)
        running.process.terminate()
        asking.join(60)
        assert late[0].status == 200
        assert running.process.wait(60) == 0
        assert usage(town)["quotas"][0]["used"] == 10

        command(town, "lab", "gateway", "suspend", "version", "scan@1.0.1")
        running = town.serve(f"chat={upstream.url}", port=running.port)
        caller.at(running.port)  # the same session, and the authority that it trusts
        answer = caller.ask()
        assert answer.status == 200
        assert json.loads(answer.body)["model_version"] == "1.0.0"
        other = caller.ask(path="/v2/models/scan/versions/1.0.1/infer")
        assert other.status == 403
        assert [caller.ask().status for _ in range(20)] == [200] * 19 + [429]
    calls = [one for one in _after(town, running) if one.event == "call"]
    assert len(calls) == 30


def test_what_was_answered_is_in_a_strict_ledger_whatever_is_killed(town):
    town.agree(audit={"durability": "strict"}, **quotas(requests=100_000))
    running = town.serve("--workers", "2")
    caller = Caller(town, running.port)

    def kill():
        time.sleep(0.3)
        workers = workers_of(running)
        for one in [running.process.pid, *workers]:
            os.kill(one, signal.SIGKILL)

    _, answered = crowd(caller, threads=6, calls=60, meanwhile=kill, until="lost")
    running.process.wait(60)
    assert len(answered) > 10
    running = town.serve(port=running.port)
    assert caller.at(running.port).ask().status == 200
    found = {one.id for one in _after(town, running) if one.event == "call"}
    assert found >= set(answered)


def test_workers_do_not_outlive_their_parent(town):
    running = town.serve("--workers", "2")
    workers = workers_of(running)
    running.kill()
    wait_until(lambda: not any(map(is_alive, workers)))
    assert Caller(town, town.serve(port=running.port).port).ask().status == 200


# The charter changes while it is served


def test_a_narrower_charter_counts_without_a_restart_and_a_wider_one_once_both_signed(town):
    town.agree(**quotas(requests=1000))
    caller = Caller(town, town.serve("--workers", "2").port)
    several = caller.several(6)
    assert {one.ask(body_of(9)).status for one in several} == {200}

    def statuses():
        return {one.ask(body_of(9)).status for one in several}

    narrow = _next(town, limits={"rows_per_request": 4})
    town.keep(town.chain.moved("amend", version=narrow, narrower=True, **town.by("lab")))
    wait_until(lambda: statuses() == {403}, seconds=SOON)
    said = json.loads(caller.ask(body_of(9)).body)
    assert said["policy"] == "limits.rows_per_request"
    assert caller.ask(body_of(4)).status == 200

    wide = _next(town, limits={"rows_per_request": 16})
    pending = town.chain.moved("amend", version=wide, narrower=False, **town.by("lab"))
    town.book("lab").take(pending.document.encode())
    time.sleep(1.5)  # longer than it takes the gateway to look: nothing may change
    assert statuses() == {403}
    town.keep(pending.cosigned(**town.by("clinic")))
    wait_until(lambda: statuses() == {200}, seconds=SOON)
    found = dict(caller.ask().headers)
    assert found["counterseal-charter"].endswith("/3")


def _next(town, **changes):
    from charters import amended

    at = town.by("lab")["at"]
    return signing.sign(amended(town.chain.charter, **changes), by=town.lab, at=at)


def test_a_step_of_either_side_ends_a_stream_in_the_middle(town):
    town.agree(**CHAT, **quotas(requests=1000))
    with Upstream(town, slow=0.1) as upstream:
        openai, client = openai_client(Caller(town, town.serve(f"chat={upstream.url}").port))
        said = [{"role": "user", "content": "word " * 600}]
        pieces = client.chat.completions.create(model="chat", messages=said, stream=True)
        seen = []

        def read():
            for piece in pieces:
                seen.append(piece)
                if len(seen) == 3:
                    command(town, "lab", "charter", "suspend", town.chain.charter.id)

        with pytest.raises(openai.APIError, match="suspended"):
            read()
        assert 3 <= len(seen) < 600


# Two nodes


@pytest.fixture
def cluster(monkeypatch):
    """A server of this test alone, that it may stop."""
    reason = why_no_postgres()
    if reason is not None:
        pytest.skip(reason)
    with Cluster() as cluster:
        monkeypatch.setenv("COUNTERSEAL_STATE", cluster.create())
        yield cluster


def test_two_nodes_are_one_gateway(town, cluster):
    town.agree(**quotas(requests=60))
    first, second = (town.serve("--node", name, "--workers", "2") for name in "ab")
    caller = Caller(town, first.port)
    there = caller.again().at(second.port)  # the same session, at the other node

    def both():
        return {caller.ask().status, there.ask().status}

    # Quotas are those of both together.
    found = [None, None]
    crew = [
        threading.Thread(target=lambda at=at, one=one: found.__setitem__(at, _all(one)))
        for at, one in enumerate((caller, there))
    ]
    for one in crew:
        one.start()
    for one in crew:
        one.join(60)
    assert sum(one[200] for one in found) == 60
    assert all(one[200] for one in found)
    town.amend(**quotas(requests=1000))
    wait_until(lambda: both() == {200}, seconds=SOON)

    # What one is told the other knows.
    command(town, "lab", "gateway", "suspend", "partner", "clinic")
    wait_until(lambda: both() == {403}, seconds=SOON)
    command(town, "lab", "gateway", "resume", "partner", "clinic")
    wait_until(lambda: both() == {200}, seconds=SOON)

    # Without the database nobody can say what still counts: both refuse, and then go on.
    cluster.stop()
    wait_until(lambda: both() == {503}, seconds=SOON)
    cluster.start()
    wait_until(lambda: both() == {200}, seconds=SOON)
    before = usage(town)["calls"]
    assert both() == {200}
    time.sleep(1.5)  # until that is published
    assert usage(town)["calls"] >= before + 2
    where = f"https://lab@localhost:{second.port}"
    said = json.loads(
        command(town, "clinic", "--json", "session", "verify", where, "--under", "scan")
    )
    assert said["entries"] > 60


def _all(caller):
    return crowd(caller, threads=4, calls=60, until=429)[0]


def test_one_gateway_at_a_time_has_a_node_of_a_home(town):
    running = town.serve()
    other = town.start(
        "lab", "serve", *_models(town), "--under", town.chain.charter.id,
        "--listen", f"127.0.0.1:{free_port()}",
    )  # fmt: skip
    assert other.process.wait(60) != 0
    assert "running already" in other.said
    assert Caller(town, running.port).ask().status == 200


def _models(town):
    return [f"{one.name}@{one.number}={one.where}" for one in town.plan.models]
