"""The demo, as README's first command runs it after the installation."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parent.parent.parent


def test_the_demo_plays_through_and_shows_every_refusal(tmp_path):
    (tmp_path / "examples").mkdir()
    script = tmp_path / "examples" / "demo.py"
    script.write_text((ROOT / "examples" / "demo.py").read_text())
    environment = {**os.environ, "HF_HUB_OFFLINE": "1", "TOKENIZERS_PARALLELISM": "false"}
    result = subprocess.run(
        [sys.executable, str(script)],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )
    assert result.returncode == 0, result.stdout + result.stderr
    assert result.stdout.count("[4]") == 3
    assert "is older than version 2" in result.stdout
    assert "is a pickle" in result.stdout
    assert "same embeddings as the original: True" in result.stdout
    assert not (tmp_path / "demo-output" / "x").exists()
