import os

import pytest

from counterseal.charter.document import Output
from counterseal.gateway.outputs import control, control_vectors, laplace

np = pytest.importorskip("numpy")

SCORES = np.array([[0.125, 0.5, 0.375], [0.25, 0.25, 0.5]], "f4")
LABEL = np.array([1, 2])


def terms(top=None, decimals=None, noise=None):
    return Output(top=top, decimals=decimals, noise_permille=noise)


def controlled(scores=SCORES, *, tightened=False, noise=None, **agreed):
    return control({"p": scores}, terms(**agreed), tightened=tightened, noise=noise)["p"]


def test_nothing_agreed_is_nothing_done():
    assert controlled() is SCORES


def test_top_leaves_the_best_classes_and_zero_for_all_others():
    left = controlled(top=2)
    assert left.dtype == np.float32
    assert left.tolist() == [[0, 0.5, 0.375], [0.25, 0, 0.5]]
    assert controlled(top=1).tolist() == [[0, 0.5, 0], [0, 0, 0.5]]
    assert controlled(top=3) is SCORES


@pytest.mark.parametrize("top", [1, 2, 3])
def test_the_best_class_stays_the_best_with_logits_too(top):
    logits = np.array([[-7.0, -3.0, -9.0, -8.0], [5.0, 2.0, -1.0, 0.0]])
    left = controlled(logits, top=top)
    assert (left.argmax(1) == logits.argmax(1)).all()
    ranked = np.argsort(-logits, axis=1)[:, :top]
    kept = np.take_along_axis(left, ranked, 1)
    assert (kept == np.take_along_axis(logits, ranked, 1)).all()
    rest = np.sort(left, axis=1)[:, : 4 - top]
    assert (rest == rest[:, :1]).all(), "what was not kept tells nothing"
    assert (rest < kept.min(1, keepdims=True)).all()


def test_floats_are_rounded_and_nothing_else():
    outputs = {"p": SCORES, "label": LABEL, "text": np.array([b"a"], object), "v": np.array([1.26])}
    left = control(outputs, terms(top=1, decimals=1), tightened=False, noise=None)
    assert left["p"].tolist() == [[0, 0.5, 0], [0, 0, 0.5]]
    assert left["v"].tolist() == [1.3]
    assert left["label"] is LABEL
    assert left["text"] is outputs["text"]


def test_tightened_is_one_class_and_one_decimal_whatever_was_agreed():
    scores = np.array([[0.17, 0.83]])
    for agreed in ({}, {"top": 2, "decimals": 5}):
        assert controlled(scores, tightened=True, **agreed).tolist() == [[0, 0.8]]
    assert controlled(scores, tightened=True, decimals=0).tolist() == [[0, 1]]


def test_noise_comes_before_top_and_rounding():
    """Else the class that was best, and digits behind the last one, would show through."""
    noise = lambda shape: np.array([[0, -1, 0], [0, 0, -1]], "f8")  # noqa: E731
    left = controlled(noise=noise, top=1, decimals=1)
    assert left.dtype == np.float32
    same = control({"p": SCORES}, terms(top=1, decimals=1, noise=400), tightened=False, noise=noise)
    assert left.argmax(1).tolist() == [1, 2]
    assert same["p"].argmax(1).tolist() == [2, 0]
    assert same["p"].round(1).tolist() == same["p"].tolist()


def test_noise_has_the_agreed_scale_and_probabilities_stay_probabilities():
    wide = np.full((200, 50), 0.5)
    left = control({"p": wide}, terms(noise=20), tightened=False, noise=laplace(os.urandom))["p"]
    assert np.abs(left - 0.5).mean() == pytest.approx(0.02, rel=0.15)
    assert np.median(left) == pytest.approx(0.5, abs=0.005)
    loud = control({"p": wide}, terms(noise=5000), tightened=False, noise=laplace(os.urandom))["p"]
    assert loud.min() >= 0
    assert loud.max() <= 1


def test_noise_that_was_agreed_is_never_left_out():
    with pytest.raises(ValueError, match="no source"):
        control({"p": SCORES}, terms(noise=10), tightened=False)


def test_equal_noise_bytes_are_equal_noise():
    """A caller may derive them from the input, so that asking again averages nothing away."""
    source = lambda n: bytes(range(256))[:n]  # noqa: E731
    assert (laplace(source)((4, 4)) == laplace(source)((4, 4))).all()
    assert np.isfinite(laplace(bytes)((8,))).all()
    assert np.isfinite(laplace(lambda n: b"\xff" * n)((8,))).all()


def test_vectors_have_no_classes():
    vectors = np.array([[0.123, -0.456, 0.789]], "f4")
    left = control_vectors(vectors, terms(top=1, decimals=2), tightened=False)
    assert left.round(2).tolist() == vectors.round(2).tolist()
    tight = control_vectors(vectors, terms(), tightened=True)
    assert (tight == vectors.round(2)).all()
    loud = control_vectors(
        vectors, terms(noise=100), tightened=False, noise=lambda shape: np.ones(shape)
    )
    assert np.allclose(loud, vectors + 0.1)


def test_one_column_is_a_value_and_no_score():
    values = np.array([[0.7], [0.2]])
    assert controlled(values, top=1).tolist() == values.tolist()
