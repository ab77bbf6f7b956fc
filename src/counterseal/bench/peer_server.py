"""MLServer, bare: the same model and protocol, without TLS and without governance.

It runs in an interpreter of its own, which fits the model itself: nothing is unpickled that
another program has written. `parallel_workers` 0 is the setting in which it uses least CPU.
"""

from __future__ import annotations

import json
import subprocess
from typing import TYPE_CHECKING, Final

from counterseal.bench.gateway_models import FITTED
from counterseal.bench.processes import Running, free_port

if TYPE_CHECKING:
    from pathlib import Path

__all__ = ["start", "versions"]

_FIT: Final = f"""
import sys, joblib
from sklearn.datasets import load_breast_cancer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
rows, labels = load_breast_cancer(return_X_y=True)
model = make_pipeline(StandardScaler(), LogisticRegression(max_iter=500))
joblib.dump(model.fit(rows[:{FITTED}], labels[:{FITTED}]), sys.argv[1])
"""
_SERVE: Final = "from mlserver.cli import main; main()"
_READY: Final = "Uvicorn running on"
_VERSIONS: Final = """
import json
from importlib.metadata import version
print(json.dumps({name: version(name) for name in ("mlserver", "mlserver-sklearn", "uvicorn")}))
"""


def versions(python: Path) -> dict[str, str]:
    """Raises CalledProcessError or OSError if MLServer is not there."""
    done = subprocess.run([python, "-c", _VERSIONS], check=True, capture_output=True, timeout=60)
    found: dict[str, str] = json.loads(done.stdout)
    return found


def start(python: Path, folder: Path) -> tuple[Running, int]:
    """In a new folder; when it returns, it serves model `scan` at the port."""
    folder.mkdir()
    fitted = folder / "model.joblib"
    subprocess.run([python, "-c", _FIT, fitted], check=True, capture_output=True, timeout=120)
    port = free_port()
    settings = {
        "host": "127.0.0.1",
        "http_port": port,
        "grpc_port": free_port(),
        "metrics_port": free_port(),
        "parallel_workers": 0,
        "debug": False,
    }
    (folder / "settings.json").write_text(json.dumps(settings))
    model = {
        "name": "scan",
        "implementation": "mlserver_sklearn.SKLearnModel",
        "parameters": {"uri": "./model.joblib"},
    }
    (folder / "model-settings.json").write_text(json.dumps(model))
    command: list[str | Path] = [python, "-c", _SERVE, "start", str(folder)]
    running = Running(command, said=folder / "said", folder=folder)
    try:
        running.until(_READY).until("Loaded model")
    except BaseException:
        running.end()
        raise
    return running, port
