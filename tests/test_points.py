"""What the benchmarks of budgets left: every limit kept, int8 near to float, tables of all runs."""

import importlib
from pathlib import Path
from types import ModuleType

import pytest

from mcugraph.prune.goal import Goal

ROOT = Path(__file__).parents[1]
LIMITS = {"24 KB layer by layer": 24 << 10, "8 KB streamed": 8 << 10}


@pytest.fixture
def figures(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(ROOT / "benchmarks")
    return importlib.import_module("points_table")


def test_every_budget_was_kept_by_the_c(figures: ModuleType) -> None:
    for budgets in figures.results().values():
        assert len(budgets) >= 4
        assert any(Goal.of(budget).limits.keys() == {"ram"} for budget in budgets if budget)
        for budget, found in budgets.items():
            limits = Goal.of(budget).limits if budget else {}
            assert all(found["used"][name] <= limit for name, limit in limits.items()), budget


def test_the_c_is_as_good_as_the_float_network(figures: ModuleType) -> None:
    for budgets in figures.results().values():
        for budget, found in budgets.items():
            last = [found[way] for way in figures.INT8 if way in found][-1]
            assert last["c"] >= found["float"] - 0.5, budget
            assert last["same_class"] > 0.999, budget


def test_both_limits_of_ram_were_kept(figures: ModuleType) -> None:
    found = figures.results(figures.RAM)
    assert found.keys() == LIMITS.keys()
    for name, variants in found.items():
        for variant, seeds in variants.items():
            for run in seeds.values():
                assert (run["used"]["arena"] <= LIMITS[name]) == (variant != figures.WHOLE)


def test_tables_have_a_row_for_each(figures: ModuleType) -> None:
    rows = sum(len(budgets) for budgets in figures.results().values())
    assert len(figures.table().splitlines()) == rows + 2
    rows = sum(len(variants) for variants in figures.results(figures.RAM).values())
    assert len(figures.ram_table().splitlines()) == rows + 2
