"""Directories in any order: nothing goes back, nothing changed is believed, python-tuf agrees.

The oracle is python-tuf's own client, which we do not use (it needs a folder, and its clock is
the machine's). Whatever our reader believes, that client must believe from the same files.
"""

from __future__ import annotations

import contextlib
import tempfile
from datetime import timedelta
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from notices import Desk
from tuf.api.exceptions import DownloadHTTPError
from tuf.ngclient import FetcherInterface, Updater
from workshop import AT, Cast

from counterseal.errors import CountersealError
from counterseal.trust.directory import publisher
from counterseal.trust.directory.bundle import Contact, DirectoryBundle
from counterseal.trust.directory.known import Known
from counterseal.trust.prekeys import prekey_id

HOUR = timedelta(hours=1)
ACTIONS = {
    "nothing": lambda _desk, _at: {},
    "rotate": lambda desk, at: desk.lab.rotate(at=at) or {},
    "renew the online key": lambda _desk, _at: {"renew_online": True},
    "use up prekeys": lambda desk, _at: use_up(desk) or {},
    "move": lambda _desk, at: {"contact": Contact.of(f"https://lab.example/{at:%j%H}")},
    "more prekeys": lambda _desk, _at: {"prekeys": 3},
}
STEP = st.tuples(
    st.sampled_from([*ACTIONS, "refresh"]), st.sampled_from([0, 1, 24, 5 * 24, 8 * 24, 16 * 24])
)


def use_up(desk):
    for name in desk.lab.prekeys.ids():
        desk.lab.prekeys.delete(name)


class Shelf(FetcherInterface):
    """Serves the files of one directory."""

    def __init__(self, bundle):
        self.files = bundle.files

    def _fetch(self, url):
        name = url.rpartition("/")[2]
        if name not in self.files:
            raise DownloadHTTPError("no such file", 404)
        return iter([self.files[name]])


class Oracle:
    """python-tuf's client, with a folder and a clock of its own."""

    def __init__(self, folder):
        self.folder = folder

    def believes(self, bundle, *, at):
        first = not (self.folder / "root.json").exists()
        roots = bundle.roots()
        updater = Updater(
            str(self.folder),
            "shelf:/",
            target_dir=str(self.folder),
            target_base_url="shelf:/",
            fetcher=Shelf(bundle),
            bootstrap=roots[max(roots)] if first else None,
        )
        updater._trusted_set.reference_time = at
        updater.refresh()
        for name in ("card.json", "prekeys.json"):
            path = updater.download_target(updater.get_targetinfo(name))
            assert Path(path).read_bytes() == bundle.files[name]


def publish(desk, steps):
    """Directories in the order they were made, with the time."""
    at, made = AT, []
    for action, hours in steps:
        at += hours * HOUR + timedelta(seconds=1)
        if action == "refresh" and made:
            # Unless it is too old for that, or the card is another one.
            with contextlib.suppress(CountersealError):
                made.append(
                    (publisher.refresh_timestamp(made[-1][0], desk.online_key(), at=at), at)
                )
            continue
        more = ACTIONS.get(action, ACTIONS["nothing"])(desk, at)
        made.append((desk.make(**{"prekeys": 2, "at": at, **more}), at))
    return made, at


@settings(max_examples=20)
@given(
    steps=st.lists(STEP, min_size=1, max_size=6),
    order=st.lists(st.integers(0, 5), min_size=1, max_size=8),
)
def test_nothing_goes_back_and_python_tuf_agrees(steps, order):
    desk = Desk(Cast())
    made, now = publish(desk, steps)
    latest = -1
    with tempfile.TemporaryDirectory() as folder:
        oracle = Oracle(Path(folder))
        for index in order:
            bundle, at = made[index % len(made)]
            number, at = index % len(made), max(at, made[max(latest, 0)][1])
            try:
                lab = desk.take(bundle, at=at)
            except CountersealError:
                # Refused only with a reason: it is older, or it ended.
                assert number < latest or at >= made[number][1] + timedelta(days=7)
                continue
            assert number >= latest
            latest = number
            assert lab.fresh_until > at
            assert lab.prekeys.card == lab.key_id
            oracle.believes(bundle, at=at)
    assert now >= AT


@settings(max_examples=15)
@given(steps=st.lists(STEP, min_size=2, max_size=6))
def test_the_marks_only_move_up(steps):
    desk = Desk(Cast())
    made, _ = publish(desk, steps)
    place = f"{desk.lab.history.identity}/{desk.clinic.history.identity}"
    marks = []
    for bundle, at in made:
        desk.take(bundle, at=at)
        known = Known.parse(desk.clinic.store.get("directory", place))
        marks.append((known.timestamp, known.snapshot, known.targets))
    assert marks == sorted(marks)
    assert all(list(column) == sorted(column) for column in zip(*marks, strict=True))
    assert len({timestamp for timestamp, *_ in marks}) == len(marks)


@settings(max_examples=15)
@given(steps=st.lists(STEP, min_size=1, max_size=5))
def test_what_is_offered_can_be_opened_and_is_used_once(steps):
    desk = Desk(Cast())
    made, _ = publish(desk, steps)
    bundle, at = made[-1]
    offered = desk.take(bundle, at=at).prekeys
    us = desk.clinic.history.identity
    gone = {prekey_id(key) for key in offered.keys} - set(desk.lab.prekeys.ids())
    assert not gone or steps[-1][0] == "refresh", "no key is on offer whose private half is gone"
    for key in offered.keys:
        name = prekey_id(key)
        if name not in gone:
            assert desk.lab.prekeys.expires(name) >= offered.expires
            assert desk.lab.prekeys.opener(name, partner=us)
    assert offered.last_resort.expires > at + timedelta(days=6) or steps[-1][0] == "refresh"


@settings(max_examples=200)
@given(data=st.data())
def test_nothing_changed_is_believed(data):
    desk, made = honest()
    name = data.draw(st.sampled_from(sorted(made.files)))
    content = bytearray(made.files[name])
    place = data.draw(st.integers(0, len(content) - 1))
    content[place] = data.draw(st.integers(0, 255).filter(lambda byte: byte != content[place]))
    changed = DirectoryBundle.of({**made.files, name: bytes(content)})
    with pytest.raises(CountersealError):
        desk.take(changed)


@settings(max_examples=100)
@given(data=st.data())
def test_nothing_changed_on_the_way_is_believed(data):
    desk, made = honest()
    content = bytearray(made.encode())
    place = data.draw(st.integers(0, len(content) - 1))
    content[place] = data.draw(st.integers(0, 255).filter(lambda byte: byte != content[place]))
    with pytest.raises(CountersealError):
        desk.take(DirectoryBundle.parse(bytes(content)))


def honest(made=[]):  # noqa: B006 - one for all examples: making it takes longer than reading it
    if not made:
        desk = Desk(Cast())
        made.append((desk, desk.make(prekeys=1, contact=Contact.of("https://lab.example"))))
    return made[0]
