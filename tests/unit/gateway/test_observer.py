"""Where detectors look: what they find moves the charter on its ladder, for all workers."""

import pytest
from gateway import Town
from gateway_attack import outcome

from counterseal.charter import document
from counterseal.gateway.observer import WAITING, ThreadObserver
from counterseal.gateway.reference import Reference
from counterseal.gateway.served import read_standing

np = pytest.importorskip("numpy")
pytest.importorskip("skl2onnx")

MONITORING = {
    "detectors": (document.Detector(name="novelty", threshold_permille=3000),),
    "ladder": (
        document.Rung(at=40, do="flag"),
        document.Rung(at=60, do="tighten"),
        document.Rung(at=75, do="throttle"),
        document.Rung(at=90, do="suspend"),
    ),
}
SEED = bytes(32)


@pytest.fixture
def rows():
    return np.random.default_rng(7).normal(size=(400, 4)).astype("f4")


@pytest.fixture
def town(tmp_path):
    with Town(tmp_path) as made:
        yield made


class Watch:
    """An observer beside a worker; it looks at rows of four columns."""

    def __init__(self, gate, rows):
        self.gate, self.reference = gate, Reference.from_rows(rows[:300], SEED)
        self.said = []
        self.observer = None
        self.begin()

    def begin(self):
        if self.observer is not None:
            self.observer.close()
        desk = self.gate.desk
        self.observer = ThreadObserver(
            desk.vault,
            desk.shared,
            us=desk.us,
            announce=desk.shared.bump,
            references={"scan": self.reference},
            report=self.said.append,
        )

    def look(self, *parts, model="scan"):
        for part in parts:
            self.observer.put(self.gate.served, model, part)
        self.observer.settle()

    @property
    def standing(self):
        return read_standing(self.gate.desk.vault, self.gate.served.charter.id)


@pytest.fixture
def watch(town, rows):
    made = Watch(town.open(monitoring=MONITORING), rows)
    yield made
    made.observer.close()


def strange(count, start=0):
    return np.random.default_rng(start).normal(size=(count, 4)).astype("f4") + 50


def test_honest_rows_raise_nothing(watch, rows):
    watch.look(*rows[300:, None])
    assert watch.standing.rung is None
    assert watch.said == []


def test_strange_rows_take_every_rung_and_stand_in_the_ledger(watch):
    gate = watch.gate
    ticket = gate.session()
    assert gate.call(ticket)
    watch.look(*strange(60)[:, None])
    assert watch.standing.taken == ("flag", "tighten", "throttle", "suspend")
    assert outcome(lambda: gate.call(ticket)) == "CharterDenied"
    incidents = [one.action for one in gate.entries() if one.event == "incident"]
    assert incidents == ["flag", "tighten", "throttle", "suspend"]


def test_another_worker_meets_it_with_its_next_request(watch, town):
    second = town.another(1)
    ticket = second.session()
    assert second.call(ticket)
    watch.look(*strange(60)[:, None])
    assert outcome(lambda: second.call(ticket)) == "CharterDenied"


def test_a_restart_resets_no_risk(watch):
    watch.look(*strange(3)[:, None])
    before = watch.standing.holds
    assert 0 < before < 100
    watch.begin()
    watch.look(*strange(2, 1)[:, None])
    assert watch.standing.holds >= before


def test_what_a_person_lifted_is_lifted_for_the_observer_too(watch):
    from counterseal.gateway.ladder import Standing
    from counterseal.gateway.served import write_standing

    watch.look(*strange(60)[:, None])
    write_standing(watch.gate.desk.vault, watch.gate.served.charter.id, Standing())
    watch.gate.desk.shared.bump()
    watch.look(strange(1, 9))
    assert [*watch.standing.taken] != []  # the risk itself is still there: it says so again


def test_rows_that_cannot_be_looked_at_hide_no_others(watch):
    """A row of another shape among those of an attack."""
    parts = []
    for one in strange(60)[:, None]:
        parts += [one, np.zeros((1, 3), "f4")]
    watch.look(*parts)
    assert "suspend" in watch.standing.taken
    assert watch.said  # whoever runs it hears of them


def test_many_malformed_requests_are_somebody_who_looks_for_a_way_in(watch):
    for _ in range(2000):
        watch.observer.probe(watch.gate.served)
    watch.observer.settle()
    assert watch.standing.rung is not None


def test_what_there_is_no_room_for_is_dropped_and_counted(watch):
    watch.observer.close()  # nobody looks any more
    for _ in range(WAITING + 5):
        watch.observer.put(watch.gate.served, "", None)
    assert watch.observer.dropped == 5


def test_a_worker_tells_it_what_was_answered(town, rows):
    """Through the pipeline: the rows of an answered call, and a probe for a malformed one."""
    gate = town.open(monitoring=MONITORING)
    seen = []

    class Notes:
        def observe(self, served, offer, found):
            seen.append((offer.model, found.shape))

        def probe(self, served):
            seen.append("probe")

    gate.desk.observer = Notes()
    ticket = gate.session()
    gate.call(ticket)
    gate.answer(ticket, b"nonsense")
    gate.answer(ticket, purpose="research")
    assert seen == [("scan", (1, 30)), "probe"]
