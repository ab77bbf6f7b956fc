import pytest

from counterseal.charter.document import Detector, Monitoring, Rung
from counterseal.errors import FormatError
from counterseal.gateway.ladder import Standing, Step, rung_of

LADDER = Monitoring(
    detectors=(Detector(name="novelty", threshold_permille=8000),),
    ladder=(
        Rung(at=40, do="flag"),
        Rung(at=60, do="tighten"),
        Rung(at=75, do="throttle"),
        Rung(at=90, do="suspend"),
    ),
)
NOTHING = Monitoring(detectors=(), ladder=())


def walk(*risks, monitoring=LADDER):
    """Standing after these risks, and all steps on the way."""
    standing, steps = Standing(), []
    for risk in risks:
        standing, more = standing.after(monitoring, risk)
        steps += more
    return standing, steps


@pytest.mark.parametrize(
    ("risk", "rung"),
    [(0, None), (39, None), (40, "flag"), (60, "tighten"), (89, "throttle"), (90, "suspend"), (100, "suspend")],
)  # fmt: skip
def test_a_risk_reaches_the_rungs_at_or_below_it(risk, rung):
    assert rung_of(LADDER, risk) == rung
    standing, _ = walk(risk)
    assert standing.rung == rung
    assert standing.flagged == (risk >= 40)
    assert standing.tightened == (risk >= 60)
    assert standing.slowed == (risk >= 75)
    assert standing.ended == (risk >= 90)
    assert standing.holds == risk


def test_each_rung_is_a_step_once_even_if_the_risk_jumps():
    _, steps = walk(10, 80, 80, 85, 80)
    assert steps == [Step("flag", 80), Step("tighten", 80), Step("throttle", 80)]


def test_rungs_below_suspension_are_lifted_when_the_risk_has_clearly_fallen():
    standing, steps = walk(62, 55, 51)
    assert standing.rung == "tighten"
    assert [step for step in steps if step.lifted] == []
    standing, steps = walk(62, 55, 50)
    assert standing.rung == "flag"
    assert steps[-1] == Step("tighten", 50, lifted=True)
    assert walk(62, 0)[0] == Standing()


def test_a_low_rung_is_lifted_at_zero():
    low = Monitoring(detectors=(), ladder=(Rung(at=5, do="flag"),))
    assert walk(7, 3, monitoring=low)[0].flagged
    assert not walk(7, 0, monitoring=low)[0].flagged


@pytest.mark.parametrize("do", ["suspend", "revoke"])
def test_suspension_and_revocation_stay_whatever_the_risk_does(do):
    monitoring = Monitoring(detectors=(), ladder=(Rung(at=40, do="flag"), Rung(at=90, do=do)))
    standing, steps = walk(95, 0, 0, monitoring=monitoring)
    assert standing.rung == do
    assert standing.ended
    assert standing.holds >= 90
    assert steps == [Step("flag", 95), Step(do, 95), Step("flag", 0, lifted=True)]
    assert Standing.decode(standing.encode()).after(NOTHING, 0)[0].ended
    assert standing.resumed() == Standing()


def test_a_charter_without_a_ladder_does_nothing():
    assert walk(100, monitoring=NOTHING) == (Standing((), 100), [])


def test_a_ladder_that_does_not_say_tighten_does_not_tighten():
    monitoring = Monitoring(detectors=(), ladder=(Rung(at=50, do="throttle"),))
    standing, _ = walk(99, monitoring=monitoring)
    assert standing.slowed
    assert not standing.tightened


def test_standing_survives_a_restart():
    standing, _ = walk(80)
    assert Standing.decode(standing.encode()) == standing


@pytest.mark.parametrize(
    "data",
    [b"", b"{}", Standing().encode()[:-1] + b" }", Standing(("flag",), 1).encode().replace(b"flag", b"flog")],
)  # fmt: skip
def test_a_standing_that_is_none_is_refused(data):
    with pytest.raises(FormatError):
        Standing.decode(data)


@pytest.mark.parametrize("risk", [-1, 101])
def test_a_risk_outside_0_to_100_is_a_mistake(risk):
    with pytest.raises(ValueError, match="0 to 100"):
        Standing().after(LADDER, risk)
