import itertools
import struct
from hashlib import sha256

import pytest

from counterseal.charter.document import Detector
from counterseal.errors import FormatError
from counterseal.gateway import reference as references
from counterseal.gateway.reference import Reference, nearest
from counterseal.gateway.sentinel import ALARM, Probe, Sentinel

np = pytest.importorskip("numpy")
datasets = pytest.importorskip("sklearn.datasets")
networks = pytest.importorskip("sklearn.neural_network")

BOTH = (
    Detector(name="novelty", threshold_permille=8000),
    Detector(name="similarity", threshold_permille=8000),
)
SEEDS = range(6)


@pytest.fixture(scope="module")
def digits():
    rows, labels = datasets.load_digits(return_X_y=True)
    return rows / 16, labels


@pytest.fixture(scope="module")
def sides(digits):
    """For each seed: a reference from the owner's rows, the partner's rows, a generator."""
    made = []
    for seed in SEEDS:
        random = np.random.default_rng(seed)
        order = random.permutation(len(digits[0]))
        own, partner = digits[0][order[:1000]], digits[0][order[1000:]]
        made.append((Reference.from_rows(own, sha256(bytes([seed])).digest()), partner, random))
    return made


def alarm(reference, rows, *, detectors=BOTH, risk=ALARM):
    """After how many rows the risk is reached, or None."""
    sentinel = Sentinel(reference, detectors)
    for number, row in enumerate(rows, 1):
        if sentinel.observe(row[None]).risk >= risk:
            return number
    return None


def mixup(rows, random, count):
    left, right = rows[random.choice(100, count)], rows[random.choice(100, count)]
    share = random.random((count, 1))
    return share * left + (1 - share) * right


def jacobian(victim, seeds, count, step=0.1):
    """Papernot's augmentation: rows moved to where a copy of the model changes its mind."""
    rows = seeds.copy()
    while len(rows) < count:
        classes = victim.predict(rows)
        copy = networks.MLPClassifier((32,), max_iter=60, random_state=0)
        with pytest.warns(match="Maximum iterations"):
            copy.fit(rows, classes)
        at = np.arange(len(rows)), np.searchsorted(copy.classes_, classes)
        base = copy.predict_proba(rows)[at]
        slope = np.zeros_like(rows)
        for feature in range(rows.shape[1]):
            moved = rows.copy()
            moved[:, feature] += 1e-2
            slope[:, feature] = copy.predict_proba(moved)[at] - base
        rows = np.vstack([rows, np.clip(rows + step * np.sign(slope), 0, 1)])
    return rows[:count]


# What must not alarm


def test_honest_rows_hardly_ever_alarm(sides):
    """Here never; in 12 splits of all rows it was once in 10,000."""
    streams = [(reference, rows[:500]) for reference, rows, _ in sides]
    assert sum(map(len, (rows for _, rows in streams))) == 3000
    assert [alarm(*stream) for stream in streams] == [None] * len(SEEDS)


def test_honest_rows_sent_again_and_again_never_alarm(sides):
    for reference, rows, random in sides:
        assert alarm(reference, rows[random.choice(400, 900)]) is None


def test_without_the_memory_of_rows_that_were_sent_repeats_would_alarm(sides, monkeypatch):
    """The control: this is what rule 2 is for."""
    monkeypatch.setattr(Sentinel, "_fresh", lambda self, rows: list(range(len(rows))))
    reference, rows, random = sides[0]
    assert alarm(reference, rows[random.choice(400, 900)]) < 300


# What must


def test_random_rows_alarm_at_once(sides):
    assert all(alarm(reference, random.random((50, 64))) == 5 for reference, _, random in sides)


def test_noisy_copies_of_a_few_rows_alarm(sides):
    for reference, rows, random in sides:
        base = rows[random.choice(100, 300)]
        noisy = np.clip(base + random.normal(0, 0.15, base.shape), 0, 1)
        assert alarm(reference, noisy) <= 300


def test_mixtures_of_a_few_rows_alarm_and_go_on_to_suspension(sides):
    for reference, rows, random in sides:
        mixed = mixup(rows, random, 300)
        assert alarm(reference, mixed) <= 200
        assert alarm(reference, mixed, risk=90) <= 300


def test_mixtures_alarm_by_similarity_alone_as_novelty_hardly_sees_them(sides):
    reference, rows, random = sides[0]
    rows = mixup(rows, random, 300)
    assert alarm(reference, rows, detectors=BOTH[1:]) <= 200
    assert alarm(reference, rows, detectors=BOTH[:1], risk=90) is None


def test_rows_made_with_a_copy_of_the_model_alarm(digits, sides):
    victim = networks.MLPClassifier((64,), max_iter=400, random_state=0).fit(
        digits[0][:700], digits[1][:700]
    )
    assert victim.score(digits[0][700:], digits[1][700:]) > 0.9
    reference, rows, _ = sides[0]
    assert alarm(reference, jacobian(victim, rows[:100], 300)) <= 300


def test_an_attack_that_hides_among_honest_rows_alarms_later(sides):
    found = []
    for reference, rows, random in sides:
        hidden = random.random(700) < 0.2
        stream = np.where(
            hidden[:, None], mixup(rows, random, 700), rows[random.choice(len(rows), 700)]
        )
        found.append(alarm(reference, stream))
    assert sum(one is not None for one in found) >= len(SEEDS) - 1


def test_rows_that_differ_in_the_last_bit_are_not_the_same(sides):
    """Gradients are probed by steps that single precision would round away."""
    reference, rows, _ = sides[0]
    steps = rows[0] + np.arange(60)[:, None] * 1e-12
    assert alarm(reference, steps) < 30


# How risk counts


def test_a_batch_counts_row_by_row_and_at_its_worst(sides):
    reference, rows, random = sides[0]
    attack, honest = random.random((20, 64)), rows[:200]
    sentinel = Sentinel(reference, BOTH)
    seen = sentinel.observe(np.vstack([attack, honest]))
    assert seen.risk == 100
    assert sentinel.risk < 40, "and honest rows clear it afterwards"


@pytest.mark.parametrize("size", [1, 7, 64, 300])
def test_how_rows_are_cut_into_batches_changes_nothing(sides, size):
    reference, rows, random = sides[0]
    stream = np.vstack([rows[:250], mixup(rows, random, 50)])
    whole, cut = Sentinel(reference, BOTH), Sentinel(reference, BOTH)
    for row in stream:
        whole.observe(row[None])
    for at in range(0, len(stream), size):
        cut.observe(stream[at : at + size])
    assert cut._sums == pytest.approx(whole._sums)
    assert cut.risk == whole.risk


def test_the_threshold_is_a_risk_of_forty(sides):
    reference, _, random = sides[0]
    sentinel = Sentinel(reference, BOTH)
    risks = [sentinel.observe(random.random((1, 64))) for _ in range(20)]
    assert [one.risk for one in risks if one.novelty >= 8][0] >= ALARM  # noqa: RUF015
    assert all(one.risk < ALARM for one in risks if one.novelty < 8)
    assert risks[-1].risk == 100
    assert risks[-1].novelty == 20
    lax = (Detector(name="novelty", threshold_permille=80_000),)
    assert alarm(reference, random.random((40, 64)), detectors=lax) is None


def test_only_the_detectors_of_the_charter_count(sides):
    reference, _, random = sides[0]
    assert alarm(reference, random.random((99, 64)), detectors=()) is None


def test_no_rows_change_nothing(sides):
    sentinel = Sentinel(sides[0][0], BOTH)
    assert sentinel.observe(np.zeros((0, 64))).risk == 0


def test_rows_of_another_width_are_refused_and_not_remembered(sides):
    sentinel = Sentinel(sides[0][0], BOTH)
    for _ in range(2):
        with pytest.raises(FormatError, match="63 features, not 64"):
            sentinel.observe(np.zeros((1, 63)))
    assert not sentinel._seen


# Restart


def test_a_restart_resets_nothing(sides):
    reference, rows, random = sides[0]
    stream = np.vstack([rows[:400], mixup(rows, random, 120)])
    straight, stopped = Sentinel(reference, BOTH), Sentinel(reference, BOTH)
    for number, row in enumerate(stream):
        straight.observe(row[None])
        stopped.observe(row[None])
        if number in {0, 30, 380, 450}:
            data = stopped.encode()
            stopped = Sentinel.decode(data, reference=reference, detectors=BOTH)
            assert stopped.encode() == data
    assert stopped._sums == pytest.approx(straight._sums)
    stopped.observe(rows[:1])
    assert stopped._sums == pytest.approx(straight._sums), "what was sent before is remembered"


def test_a_new_reference_keeps_the_risk(sides):
    reference, _, random = sides[0]
    sentinel = Sentinel(reference, BOTH)
    sentinel.observe(random.random((9, 64)))
    moved = Sentinel.decode(sentinel.encode(), reference=sides[1][0], detectors=BOTH)
    assert moved.risk == sentinel.risk > 60
    assert moved._count == 0


def test_state_and_reference_that_are_none_are_refused(sides):
    reference, rows, _ = sides[0]
    sentinel = Sentinel(reference, BOTH)
    sentinel.observe(rows[:20])
    state, file = sentinel.encode(), reference.encode()
    read = lambda data: Sentinel.decode(data, reference=reference, detectors=BOTH)  # noqa: E731
    for data in (
        b"",
        state[:-1],
        state + b"\0",
        state[:30],
        state.replace(b"sentinel", b"sentinal"),
    ):
        with pytest.raises(FormatError):
            read(data)
    for data in (
        b"",
        file[:-1],
        file + b"\0",
        file[:30],
        b"PK" + file,
        file[:-4] + b"\0\0\xc0\x7f",
    ):
        with pytest.raises(FormatError):
            Reference.decode(data)


def patched(data, at, form, value):
    """The same bytes with one number replaced."""
    changed = bytearray(data)
    struct.pack_into(form, changed, at, value)
    return bytes(changed)


def test_numbers_that_cannot_be_are_refused(sides):
    reference = sides[0][0]
    state, file = Sentinel(reference, BOTH).encode(), reference.encode()
    start = len(b"counterseal sentinel 1\n") + 32
    for value in (float("nan"), -1.0, float("inf")):
        for at in (start, start + 8):
            with pytest.raises(FormatError, match="sum that cannot be"):
                Sentinel.decode(
                    patched(state, at, "<d", value), reference=reference, detectors=BOTH
                )
    start = len(b"counterseal reference 1\n")
    for at, form, values in (
        (0, "<I", (0, 2001, 1 << 31)),  # rows
        (4, "<I", (0, 1 << 31)),  # features
        (8, "<I", (0, 2001)),  # window
        (12, "<f", (0.0, -1.0, float("nan"), float("inf"))),  # far
        (16, "<f", (-1.0, float("nan"), float("inf"))),  # near
        (52, "<f", (0.0, -1.0, float("nan"), float("inf"))),  # a scale
    ):
        for value in values:
            with pytest.raises(FormatError, match=r"size|cannot be"):
                Reference.decode(patched(file, start + at, form, value))


def test_a_sum_beyond_the_end_or_of_a_detector_that_is_gone_does_not_count(sides):
    reference = sides[0][0]
    state = patched(
        Sentinel(reference, BOTH).encode(), len(b"counterseal sentinel 1\n") + 32, "<d", 1e9
    )
    read = lambda detectors: Sentinel.decode(state, reference=reference, detectors=detectors)  # noqa: E731
    assert read(BOTH)._sums["novelty"] == 20
    assert read(BOTH[1:]).risk == 0


def test_a_row_in_a_state_that_is_not_finite_is_refused(sides):
    reference, rows, _ = sides[0]
    sentinel = Sentinel(reference, BOTH)
    sentinel.observe(rows[:1])
    state = sentinel.encode()
    with pytest.raises(FormatError, match="row that cannot be"):
        Sentinel.decode(
            patched(state, len(state) - 12, "<f", float("nan")), reference=reference, detectors=BOTH
        )


@pytest.mark.parametrize("arguments", [{"many": 0}, {"forgive": 0}])
def test_a_probe_needs_some_patience(arguments):
    with pytest.raises(ValueError, match="some"):
        Probe(**arguments)


def test_a_seed_has_32_bytes(digits):
    with pytest.raises(ValueError, match="32"):
        Reference.from_rows(digits[0], b"short")


def test_what_a_sentinel_remembers_is_bounded(sides, monkeypatch):
    monkeypatch.setattr("counterseal.gateway.sentinel.SEEN", 50)
    reference, _, random = sides[0]
    sentinel = Sentinel(reference, BOTH)
    sentinel.observe(random.random((1000, 64)))
    assert len(sentinel._seen) == len(sentinel._known) == 50
    assert sentinel._recent.shape == (reference.window, 64)
    assert reference.window <= references.MOST_ROWS


# Reference


def test_a_reference_is_the_same_for_the_same_rows_and_seed(digits):
    rows = digits[0][:300]
    made = Reference.from_rows(rows, bytes(32))
    assert made.encode() == Reference.from_rows(rows[::-1], bytes(32)).encode()
    assert made.encode() != Reference.from_rows(rows, b"\1" * 32).encode()
    again = Reference.decode(made.encode())
    assert again.encode() == made.encode()
    assert again.digest == made.digest
    assert "rows" not in repr(made)


def test_a_feature_in_large_units_drowns_no_other(digits):
    """In grams or in tonnes: the distances are the same."""
    rows = digits[0][:400].copy()
    in_tonnes = rows * np.where(np.arange(64) == 30, 1e6, 1)
    units = Reference.from_rows(rows, bytes(32)), Reference.from_rows(in_tonnes, bytes(32))
    assert units[1].far != pytest.approx(0, abs=1e-3)
    assert units[1].scale[30] == pytest.approx(1e6 * rows[:, 30].std(), rel=1e-3)


def test_too_few_different_rows_are_refused(digits):
    for rows in (digits[0][:59], np.vstack([digits[0][:30], np.zeros((80, 64))])):
        with pytest.raises(FormatError, match="at least 60"):
            Reference.from_rows(rows, bytes(32))


def test_rows_with_a_hole_are_refused():
    with pytest.raises(FormatError, match="finite"):
        Reference.from_rows(np.full((80, 3), np.nan), bytes(32))


def test_large_rows_are_folded_and_distances_stay(digits):
    random = np.random.default_rng(1)
    images = np.repeat(np.repeat(digits[0][:400].reshape(-1, 8, 8), 4, 1), 4, 2)
    made = Reference.from_rows(images, bytes(32))
    assert made.rows.shape == (267, references.FOLDED)
    flat = images.reshape(400, -1).astype("f4")
    scaled = flat / made.scale
    pairs = list(itertools.combinations(range(30), 2))
    true = np.array([np.linalg.norm(scaled[a] - scaled[b]) for a, b in pairs])
    folded = made.place(flat)
    kept = np.array([np.linalg.norm(folded[a] - folded[b]) for a, b in pairs])
    assert np.abs(kept / true - 1).mean() < 0.2
    assert Reference.decode(made.encode()).encode() == made.encode()
    assert alarm(made, random.random((40, 32, 32))) == 5


def test_nearest_is_what_it_says(digits):
    left, right = digits[0][:300].astype("f4"), digits[0][300:500].astype("f4")
    expected = [np.sqrt(((right - row) ** 2).sum(1)).min() for row in left]
    assert nearest(left, right) == pytest.approx(expected, abs=1e-3)
    alone = [np.sqrt(((np.delete(left, n, 0) - left[n]) ** 2).sum(1)).min() for n in range(300)]
    assert nearest(left, left, itself=False) == pytest.approx(alone, abs=1e-3)


# Probing


def test_many_malformed_requests_are_a_risk_and_time_forgives():
    probe = Probe(many=20, forgive=30)
    assert probe.risk(at=0) == 0
    risks = [probe.note(at=0.0) for _ in range(20)]
    assert risks[-1] == ALARM > risks[-2]
    assert probe.risk(at=300) == 20
    assert probe.risk(at=600) == 0
    assert probe.risk(at=-100) == ALARM, "a clock that goes back forgives nothing"


def test_now_and_then_a_mistake_is_none():
    probe = Probe(many=20, forgive=30)
    assert max(probe.note(at=40.0 * n) for n in range(1000)) <= 4


def test_malformed_requests_alone_never_suspend():
    probe = Probe()
    assert max(probe.note(at=0.0) for _ in range(1000)) == 80
