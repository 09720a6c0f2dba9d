"""Two processes with half of each batch give what one process gives with all of it."""

from pathlib import Path

import fitting
import pytest

from mcugraph.prune.training import Training


@pytest.mark.parametrize("kind", ["channels", "depth"])
def test_two_processes_decide_as_one(tmp_path: Path, kind: str) -> None:
    both = fitting.by_two(kind, fitting.exported(), tmp_path)
    training = Training(epochs=fitting.EPOCHS, evaluate=fitting.batches())
    result = fitting.fitted(kind, fitting.batches(), training, fitting.exported())
    alone = fitting.described(result)
    assert result.decision.keep
    assert both["decision"] == alone["decision"]
    assert both["used"] == alone["used"]
    assert both["losses"][1:] == pytest.approx(alone["losses"][1:], rel=1e-3)
    assert both["scores"] == pytest.approx(alone["scores"], abs=100 / 64)
