"""Processes that call one gateway's models at the same time: each is a worker of its own."""

from __future__ import annotations

import asyncio
import sys
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

import msgspec
from gateway import PURPOSE, body_of
from workshop import PASSPHRASE

from counterseal.gateway.pipeline import Arrival, Pipeline
from counterseal.gateway.tensors import Limits
from counterseal.gateway.work import read_tensors
from counterseal.jobs.charters import CharterBook
from counterseal.jobs.gateway import narrower
from counterseal.jobs.serve import ModelSource, Plan, build
from counterseal.trust.home import Home
from counterseal.trust.identity import Identity
from counterseal.trust.partner import PartnerBook


def race(folder, number, tries):
    """In a process of its own: as many calls as are granted, of so many, as this worker."""
    told = msgspec.json.decode((Path(folder) / "race.json").read_bytes())
    home = Home(Path(folder) / "lab")
    identity = Identity.load("lab", home=home, passphrase=PASSPHRASE)
    book = CharterBook(
        identity.history, PartnerBook(home.store), store=home.store, narrower=narrower
    )
    chain = book.find(told["charter"])
    plan = Plan([ModelSource("scan", "1.0.0", told["model"])], [], {}, [], 4, 1, None, "node")
    desk, _, _, closing = build(plan, [chain], by=identity, home=home, number=number)
    arrival = Arrival(
        certificate=told["certificate"],
        token=told["token"],
        address="127.0.0.1",
        purpose=PURPOSE,
        record=None,
        model="scan",
        version=None,
        body=told["body"].encode(),
        read=partial(read_tensors, header_length=None, limits=Limits()),
    )

    async def calls():
        pipeline = Pipeline(desk, pool=pool)
        for _ in range(tries):
            answer = await pipeline.call(arrival)
            assert answer.status in {200, 429}, answer.refused
            sys.stdout.write("+\n" if answer.status == 200 else "-\n")
            sys.stdout.flush()

    sys.stdout.write("ready\n")
    sys.stdout.flush()
    with ThreadPoolExecutor(1) as pool:
        asyncio.run(calls())
    desk.close()
    for close in closing:
        close()


def prepare_race(town, ticket):
    """What the processes of a race are told."""
    town.keep_identities()
    told = {
        "charter": town.chain.charter.id,
        "model": town.plan.models[0].where,
        "certificate": ticket.certificate,
        "token": ticket.token,
        "body": body_of().decode(),
    }
    (town.folder / "race.json").write_bytes(msgspec.json.encode(told))


def racer(town, number, tries):
    script = f"import gateway_race; gateway_race.race({str(town.folder)!r}, {number}, {tries})"
    return town.start("lab", script=script)
