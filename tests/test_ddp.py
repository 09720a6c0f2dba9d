"""Two processes with half of each batch give what one process gives with all of it."""

import json
import os
import socket
import subprocess
import sys
from pathlib import Path

import fitting
import onnx
import pytest

from mcugraph.prune.training import Training


def free_port() -> str:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return str(listener.getsockname()[1])


@pytest.mark.parametrize("kind", ["channels", "depth"])
def test_two_processes_decide_as_one(tmp_path: Path, kind: str) -> None:
    onnx.save(fitting.exported(), tmp_path / "model.onnx")
    common = {"WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": free_port()}
    command = [sys.executable, fitting.__file__, kind, "model.onnx", "both.json"]
    runs = [
        subprocess.Popen(
            command,
            cwd=tmp_path,
            env={**os.environ, **common, "RANK": rank, "LOCAL_RANK": rank},
            stderr=subprocess.PIPE,
        )
        for rank in ("0", "1")
    ]
    errors = [run.communicate(timeout=300)[1].decode() for run in runs]
    assert [run.returncode for run in runs] == [0, 0], errors
    both = json.loads((tmp_path / "both.json").read_text())
    training = Training(epochs=fitting.EPOCHS, evaluate=fitting.batches())
    result = fitting.fitted(kind, fitting.batches(), training, fitting.exported())
    alone = fitting.described(result)
    assert result.decision.keep
    assert both["decision"] == alone["decision"]
    assert both["used"] == alone["used"]
    assert both["losses"][1:] == pytest.approx(alone["losses"][1:], rel=1e-3)
    assert both["scores"] == pytest.approx(alone["scores"], abs=100 / 64)
