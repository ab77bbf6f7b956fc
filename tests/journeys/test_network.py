"""The network fails, machines fail, clocks are wrong: all of a package arrives, or nothing does.

The command line in real processes, each organization in a network namespace of its own, real
TLS, a real mailbox and a real broker: see `tests/support/organizations.py`, whose watcher looks
into the inbox all the time. What is refused is refused for a reason that is told; then a second
attempt, without the fault, succeeds.
"""

from datetime import timedelta

import pytest
from organizations import MIB, SIZES, RelayBroker, together

CONNECTIONS = 3  # that a client uses at once
HALF = SIZES["big"] // 2
HOUR, DAY = timedelta(hours=1), timedelta(days=1)


def again(count, package, *, lost):
    """What went over the line `count` times: at most 1 % more than there is to send, and a block
    for each connection that was lost in the middle of one."""
    more = count - package.stat().st_size
    print(f"sent again: {more / MIB:.3f} MiB of {package.stat().st_size / MIB:.1f}")
    return more <= package.stat().st_size * 0.01 + lost * CONNECTIONS * MIB


# ── connections and processes ───────────────────────────────────────────────────────────────


@pytest.mark.parametrize("end", ["reset", "finish"])
def test_connections_break_in_mid_transfer(town, end):
    """Again and again, in both directions; reset, or ended in good order by somebody between."""
    town.serve()
    with town.middle() as middle:
        middle.tell("cut", every=2 * MIB, times=4, end=end)
        town.send(town.big).finish()
        middle.await_("cut")
        assert again(middle.passed[0], town.big, lost=4)
        town.nothing_visible()
        middle.tell("cut", every=2 * MIB, times=4, end=end)
        town.receive().finish()
        middle.await_("cut")
        assert again(middle.passed[1], town.big, lost=4)
    town.whole(town.big)


def test_both_ends_are_killed_in_mid_transfer(town):
    town.serve()
    with town.middle() as middle:
        middle.tell("hold", after=HALF)
        sender = town.send(town.big)
        middle.await_("held")
        sender.kill()
        middle.tell("carry")
        assert "continuing" in town.send(town.big).finish().err
        assert again(middle.passed[0], town.big, lost=1)

        middle.tell("hold", after=HALF, way="down")
        receiver = town.receive()
        middle.await_("held")
        town.until_partly()
        receiver.kill()
        middle.tell("carry")
        assert "of it earlier" in town.receive().finish().err
        assert again(middle.passed[1], town.big, lost=1)
    town.whole(town.big)
    town.confirmed(town.big)


def test_the_mailbox_is_killed_in_mid_transfer(town):
    """Once while it takes a package, once while it hands it out; nobody repeats a command."""
    server = town.serve()
    with town.middle() as middle:
        for way, job in (("up", lambda: town.send(town.big)), ("down", town.receive)):
            middle.tell("hold", after=HALF, way=way)
            client = job()
            middle.await_("held")
            server.kill()
            town.nothing_visible()
            server = town.serve()
            middle.tell("carry")
            client.finish()
        assert again(middle.passed[0], town.big, lost=1)
        assert again(middle.passed[1], town.big, lost=1)
    town.whole(town.big)
    town.confirmed(town.big)


def test_the_broker_is_killed_in_mid_transfer(town):
    with RelayBroker(town) as broker, town.middle(broker.port) as middle:
        town.listen(broker.via)
        middle.tell("hold", after=HALF)
        receiver = town.receive("--wait", 60, via=broker.via)
        sender = town.send(town.big, via=broker.via)
        middle.await_("held")
        broker.kill()
        town.nothing_visible()
        broker.start()
        middle.tell("carry")
        sender.finish()
        receiver.finish()
        town.whole(town.big)
        town.confirmed(town.big, via=broker.via)


def test_both_ends_are_killed_in_mid_transfer_over_a_broker(town):
    with RelayBroker(town) as broker, town.middle(broker.port) as middle:
        town.listen(broker.via)
        for _ in range(2):
            middle.tell("hold", after=3 * MIB, way="down")
            receiver = town.receive("--wait", 60, via=broker.via)
            sender = town.send(town.big, via=broker.via)
            middle.await_("held")
            town.until_partly()
            sender.kill()
            receiver.kill()
            middle.tell("carry")
        receiver = town.receive("--wait", 60, via=broker.via)
        assert "continuing" in town.send(town.big, via=broker.via).finish().err
        assert "of it earlier" in receiver.finish().err
        town.whole(town.big)
        town.confirmed(town.big, via=broker.via)


@pytest.mark.parametrize("kind", ["mailbox", "broker"])
def test_packets_are_lost_and_late(town, weather, kind):
    """2 % of them lost, 1 % doubled, 40 ms there and back, and some overtake others."""
    with weather(loss=0.02, twice=0.01, delay=0.02) as counted:
        if kind == "mailbox":
            town.serve()
            town.send(town.large).finish()
            town.receive().finish()
        else:
            with RelayBroker(town) as broker:
                town.listen(broker.via)
                receiver = town.receive("--wait", 60, via=broker.via)
                town.send(town.large, via=broker.via).finish()
                receiver.finish()
    town.whole(town.large)
    assert min(counted) > 0


# ── disks ───────────────────────────────────────────────────────────────────────────────────


def test_the_receivers_disk_is_full(town):
    """From the beginning, then in the middle; what has arrived waits for the rest."""
    town.mount(town.inbox, 8 * MIB)
    town.serve()
    town.send(town.big).finish()
    assert "there is no room" in town.receive().finish(1).err
    town.nothing_visible()
    assert list(town.inbox.iterdir()) == []

    town.grow(town.inbox, 20 * MIB)
    with town.middle() as middle:
        middle.tell("hold", after=HALF, way="down")
        receiver = town.receive()
        middle.await_("held")
        (town.inbox / ".filler").write_bytes(bytes(11 * MIB))
        middle.tell("carry")
        assert "there is no room" in receiver.finish(1).err
    town.nothing_visible()
    (town.inbox / ".filler").unlink()
    assert "of it earlier" in town.receive().finish().err
    town.whole(town.big)
    town.confirmed(town.big)


def test_the_mailboxs_disk_is_full(town):
    """It keeps 64 MiB of it for itself, so that what others have sent can still be fetched."""
    town.mount(town.root, (64 + 8) * MIB)
    town.serve()
    town.send().finish()
    refused = town.send(town.big).finish(1)
    assert "no space left" in refused.err
    town.receive().finish()
    town.whole()
    (town.inbox / town.small.name).unlink()
    town.nothing_visible()

    town.grow(town.root, (64 + 40) * MIB)
    assert "continuing" in town.send(town.big).finish().err
    town.receive().finish()
    town.whole(town.big)


# ── clocks ──────────────────────────────────────────────────────────────────────────────────


def test_clocks_that_differ_by_minutes_do_no_harm(skewed):
    town, minutes = skewed, timedelta(minutes=9)
    town.serve()
    together(town.send(town.small, skew=minutes), town.send(town.tiny, skew=-minutes))
    town.receive().finish()
    town.whole(town.small, town.tiny)
    town.confirmed()


def test_a_letter_from_the_future_waits_until_it_is_time(skewed):
    town = skewed
    town.serve()
    town.send(skew=3 * HOUR).finish()
    before = town.clinic.remembers("letter", "partner")
    assert "is from the future" in town.receive().finish(3).err
    town.nothing_visible()
    assert town.clinic.remembers("letter", "partner") == before
    town.receive(skew=3 * HOUR).finish()
    town.whole()


def test_clocks_that_are_years_off(skewed):
    """Their own cards are not in force then: they are told, before anything is touched."""
    town = skewed
    town.serve()
    for job in (town.send, town.receive):
        for refused in [job(skew=365 * years * DAY) for years in (-3, 3)]:
            refused.finish(3)
        town.nothing_visible()
        job().finish()
    town.whole()


def test_a_clock_a_month_ahead_takes_letters_for_ended_ones(skewed):
    """They are taken away then. The sender sees that no receipt comes, and sends again."""
    town = skewed
    town.serve()
    town.send().finish()
    assert "has ended" in town.receive(skew=40 * DAY).finish(3).err
    town.nothing_visible()
    assert "clinic has" not in town.hear(wait=0).finish().out
    town.send().finish()
    town.receive().finish()
    town.whole()
    town.confirmed()
