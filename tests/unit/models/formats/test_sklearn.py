import io
import zipfile

import pytest

from counterseal.errors import FormatError, UnsafeFormat
from counterseal.models.files import MemoryFiles, read
from counterseal.models.formats.seam import LoadOptions
from counterseal.models.formats.sklearn import Skops
from counterseal.models.objects import to_files

pytest.importorskip("skops")
np = pytest.importorskip("numpy")
datasets = pytest.importorskip("sklearn.datasets")
linear_model = pytest.importorskip("sklearn.linear_model")
ensemble = pytest.importorskip("sklearn.ensemble")


def load(files, *trusted):
    return Skops().load(files, "model.skops", LoadOptions(trusted=trusted))


def test_a_regression_predicts_the_same():
    x, y = datasets.load_breast_cancer(return_X_y=True)
    model = linear_model.LogisticRegression(max_iter=10_000, solver="liblinear").fit(x, y)
    assert np.array_equal(load(to_files(model)).predict_proba(x), model.predict_proba(x))


def test_a_forest_needs_its_trees_vouched_for():
    x, y = datasets.load_iris(return_X_y=True)
    model = ensemble.RandomForestClassifier(5, random_state=0).fit(x, y)
    files = to_files(model)
    with pytest.raises(UnsafeFormat, match=r"sklearn\.tree\._tree\.Tree") as error:
        load(files)
    assert "trusted=['sklearn.tree._tree.Tree']" in (error.value.hint or "")
    loaded = load(files, "sklearn.tree._tree.Tree")
    assert np.array_equal(loaded.predict_proba(x), model.predict_proba(x))


def altered(**members):
    files = to_files(linear_model.LogisticRegression())
    stream = io.BytesIO()
    with (
        zipfile.ZipFile(io.BytesIO(read(files, "model.skops"))) as old,
        zipfile.ZipFile(stream, "w") as new,
    ):
        for name in old.namelist():
            new.writestr(name, members.get(name.replace(".", "_"), old.read(name)))
    return MemoryFiles({"model.skops": stream.getvalue()})


@pytest.mark.parametrize(
    "schema",
    [
        b"",
        b"[]",
        b"{}",
        b"[" * 100_000,
        b'{"__class__": "x", "__loader__": "NoSuchNode", "__module__": "y", "protocol": 1}',
        b'{"__class__": "x", "__loader__": "ObjectNode", "__module__": "y", "protocol": 99}',
    ],
)
def test_a_broken_schema_is_a_format_error(schema):
    with pytest.raises(FormatError):
        load(altered(schema_json=schema))


def test_a_function_of_the_system_is_never_built():
    schema = b"""{"__class__": "system", "__module__": "os", "__loader__": "FunctionNode",
                  "content": "", "protocol": 2, "_skops_version": "0.16"}"""
    with pytest.raises(FormatError):
        load(altered(schema_json=schema))


def test_an_archive_without_schema_is_a_format_error():
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as archive:
        archive.writestr("x", "")
    with pytest.raises(FormatError, match=r"schema\.json"):
        load(MemoryFiles({"model.skops": stream.getvalue()}))
