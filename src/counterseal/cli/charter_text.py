"""A charter in words: what `charter show` and `check` print, and what is read before signing."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec

if TYPE_CHECKING:
    from collections.abc import Iterator
    from datetime import datetime

    from counterseal.charter.chain import Chain
    from counterseal.charter.diff import Difference
    from counterseal.charter.document import Charter, Limits

__all__ = ["chain_facts", "chain_text", "charter_text", "difference_text"]

_PERIOD = {"hour": "an hour", "day": "a day", "month": "a month", "term": "in the whole term"}


def charter_text(charter: Charter) -> str:
    owner, partner = charter.owner.name, charter.partner.name
    lines = [
        charter.title,
        f"charter {charter.id[:8]}, version {charter.version}, digest {charter.digest[:16]}",
        f"between {owner} (owner) and {partner}, {_term(charter)}",
        *_may(charter),
        *_limits(charter.limits),
        *_rest(charter),
    ]
    return "\n".join(lines)


def _term(charter: Charter) -> str:
    return f"{charter.begins:%Y-%m-%d %H:%M} to {charter.ends:%Y-%m-%d %H:%M} UTC"


def _may(charter: Charter) -> Iterator[str]:
    versions = {asset.name: asset.versions for asset in charter.assets}
    for one in charter.permissions:
        what = ", ".join(f"{name} {versions[name]}".removesuffix(" *") for name in one.assets)
        purposes = ", ".join(one.purposes or charter.purpose.allowed)
        yield f"may {one.action} {what} as {' or '.join(one.roles)}, for {purposes}"
    if charter.purpose.prohibited:
        yield f"never for {', '.join(charter.purpose.prohibited)}"


def _limits(limits: Limits) -> Iterator[str]:
    yield (
        f"a request has at most {limits.rows_per_request} rows and "
        f"{limits.bytes_per_request} bytes; {limits.concurrency} at a time"
    )
    if limits.rate is not None:
        rate = limits.rate
        yield f"{rate.count} requests in {rate.seconds} s, {rate.burst} at once"
    for quota in limits.quotas:
        yield f"{quota.count} {quota.unit} {_PERIOD[quota.period]}"
    for hours in limits.hours or ():
        begin, end = divmod(hours.begin, 60), divmod(hours.end, 60)
        yield (
            f"on {', '.join(hours.days)} from {begin[0]:02}:{begin[1]:02} "
            f"to {end[0]:02}:{end[1]:02} UTC"
        )
    if limits.networks:
        yield f"from {', '.join(limits.networks)}"


def _rest(charter: Charter) -> Iterator[str]:
    output = charter.output
    said = [
        f"the {output.top} best classes" if output.top else "",
        f"{output.decimals} decimals" if output.decimals is not None else "",
        f"noise of {output.noise_permille / 1000}" if output.noise_permille else "",
    ]
    if any(said):
        yield f"answers have {', '.join(filter(None, said))}"
    data = charter.data
    yield (
        f"{charter.owner.name} keeps inputs {data.keep_inputs_days} days, "
        f"{'trains' if data.train_on_inputs else 'does not train'} on them; "
        f"ledger: {charter.audit.durability}"
    )
    ladder = ", ".join(f"{rung.do} from {rung.at}" for rung in charter.monitoring.ladder)
    if ladder:
        yield f"risk: {ladder}"
    yield (
        f"ends by {', '.join(charter.exit.triggers)}; {charter.exit.wind_down_days} days to wind "
        f"down; shredded: {', '.join(charter.exit.shred) or 'nothing'}"
    )


def chain_text(chain: Chain, at: datetime) -> str:
    return f"{charter_text(chain.charter)}\n{_standing(chain, at)}"


def _standing(chain: Chain, at: datetime) -> str:
    last = chain.standing.last
    signed = " and ".join(sorted(chain.version.sides))
    text = f"{chain.standing.at(at)}; signed by {signed}"
    if last is not None:
        movers = " and ".join(sorted(chain.standing.moved))
        text += f"; last step: {last.action} by {movers}, {last.at:%Y-%m-%d %H:%M} UTC"
        text += f" ({last.reason})" if last.reason else ""
    if chain.waiting is not None:
        step, version = chain.waiting
        text += f'\nthe step "{step.action}" waits for the other side\'s signature'
        text += f" ({step.reason})" if step.reason else ""
        if version.charter != chain.charter:
            text += f"; with it the charter says:\n\n{charter_text(version.charter)}"
    return text


def difference_text(found: Difference) -> str:
    """The relation first; what it rests on below."""
    lines = [
        found.relation,
        f"newly allowed, for example: {found.newly_allowed}" if found.newly_allowed else "",
        f"newly refused, for example: {found.newly_refused}" if found.newly_refused else "",
        f"wider: {', '.join(found.wider)}" if found.wider else "",
        f"narrower: {', '.join(found.narrower)}" if found.narrower else "",
        f"changed otherwise: {', '.join(found.other_terms)}" if found.other_terms else "",
        "the owner's signature is enough" if found.narrows else "it needs both signatures",
    ]
    return "\n".join(filter(None, lines))


def chain_facts(chain: Chain, at: datetime) -> dict[str, Any]:
    last = chain.standing.last
    return {
        "id": chain.charter.id,
        "version": chain.charter.version,
        "digest": chain.charter.digest,
        "title": chain.charter.title,
        "owner": chain.charter.owner.name,
        "partner": chain.charter.partner.name,
        "state": chain.standing.at(at),
        "signed_by": sorted(chain.version.sides),
        "steps": len(chain.document.moves),
        "last": None if last is None else last.action,
        "pending": None if chain.waiting is None else chain.waiting[0].action,
        "charter": msgspec.to_builtins(chain.charter),
    }
