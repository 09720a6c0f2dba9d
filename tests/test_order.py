"""The order of least peak against brute force over all sets of finished steps."""

import json
from functools import cache
from pathlib import Path
from random import Random

import networkx as nx
import pytest
from graphfile import load_graph

from mcugraph.bounds import least_load, step_bound
from mcugraph.lattice import Lattice
from mcugraph.order import Found, Item, Problem, describe, find_order, loads, peak_of
from mcugraph.problem import window_of
from mcugraph.search import Budget, Limits, beam, best_first, order_of

# Bytes of int8 tensors alive in the best order: measured by another program.
OPTIMA = {
    "ad_autoenc": 768,
    "darts_cell_28": 338_688,
    "darts_imagenet_224": 451_584,
    "efficientnet_lite0_224": 1_505_280,
    "googlenet_224": 1_003_520,
    "ic_resnet8": 49_152,
    "kws_dscnn": 16_000,
    "mcunet5fps_like_96_res": 138_240,
    "mcunet_vww_tfl": 96_000,
    "mcunetv2_large_tfl": 1_505_280,
    "mobilenetv1_025_224": 301_056,
    "mobilenetv2_035_224": 752_640,
    "mobilenetv2_035_96": 138_240,
    "mobilenetv2_100_224": 1_505_280,
    "msf_mbv2_w035_r144": 194_400,
    "msf_mbv2_w035_r144_res": 194_400,
    "msf_mcunetv2_vww5_r80": 96_000,
    "msf_mcunetv2_vww5_r80_res": 96_000,
    "randwire_ws32_s0": 917_280,
    "randwire_ws32_s1": 978_432,
    "randwire_ws32_s2": 917_280,
    "resnet18_224": 1_003_520,
    "squeezenet1_1_224": 982_144,
    "vww_mbv1_025_96": 55_296,
}


def random_problem(seed: int, largest: int = 8) -> Problem:
    """Any problem: empty, dense or sparse, many outputs of one step, zero bytes, unread, kept."""
    random = Random(seed)
    count = random.randint(0, largest)
    density, size = random.choice([0.2, 0.4, 0.7]), random.choice([2, 5, 40])

    def item(name: str, producer: int | None, likely: float) -> Item:
        first = 0 if producer is None else producer + 1
        readers = frozenset(step for step in range(first, count) if random.random() < likely)
        size_here = random.choice([0, random.randint(0, size), random.randint(1, size)])
        return Item(name, size_here, producer, readers, random.random() < 0.15)

    items = [item(f"input{k}", None, density / 2) for k in range(random.randint(0, 3))]
    for step in range(count):
        for k in range(random.choice([0, 1, 1, 1, 2, 3])):
            items.append(item(f"{step}.{k}", step, density * random.random()))
    scratch = random.random() < 0.5
    extra = tuple(random.randint(0, size) * random.randint(0, 1) * scratch for _ in range(count))
    return Problem(count, tuple(items), extra)


def random_network(count: int, seed: int) -> Problem:
    """A Watts-Strogatz graph with random sizes: the hardest kind for its number of steps."""
    random = Random(seed)
    edges = nx.connected_watts_strogatz_graph(count, 4, 0.75, seed=seed).edges
    readers: list[set[int]] = [set() for _ in range(count)]
    for a, b in edges:
        readers[min(a, b)].add(max(a, b))
    items = (Item(f"{k}", random.randint(8, 128), k, frozenset(r)) for k, r in enumerate(readers))
    return Problem(count, tuple(items), (0,) * count)


def load_of(problem: Problem, done: frozenset[int], step: int) -> int:
    """Bytes alive while a step runs, item by item."""
    load = problem.extra[step]
    for item in problem.items:
        there = item.readers or item.kept if item.producer is None else item.producer in done
        needed = item.kept or not item.readers <= done
        load += item.size * bool(item.producer == step or (there and needed))
    return load


def brute_force(problem: Problem) -> int:
    """The least peak of all orders: over every set of finished steps."""
    needs = [
        {i.producer for i in problem.items if step in i.readers} - {None}
        for step in range(problem.count)
    ]

    @cache
    def least(done: frozenset[int]) -> int:
        ready = [s for s in range(problem.count) if s not in done and needs[s] <= done]
        peaks = [max(load_of(problem, done, step), least(done | {step})) for step in ready]
        return min(peaks, default=0)

    return least(frozenset())


def assert_works(problem: Problem, order: tuple[int, ...]) -> None:
    places = {step: place for place, step in enumerate(order)}
    assert sorted(order) == list(range(problem.count))
    for item in problem.items:
        if item.producer is not None:
            assert all(places[item.producer] < places[reader] for reader in item.readers)


def assert_honest(problem: Problem, found: Found, least: int) -> None:
    assert_works(problem, found.order)
    assert found.peak == peak_of(problem, found.order)
    assert found.lower_bound <= least <= found.peak
    assert found.proved == (found.lower_bound == found.peak)


@pytest.mark.parametrize("hundred", range(10))
def test_least_peak_of_a_thousand_graphs(hundred: int) -> None:
    for seed in range(100 * hundred, 100 * hundred + 100):
        problem = random_problem(seed)
        found, least = find_order(problem), brute_force(problem)
        assert_honest(problem, found, least)
        assert found.proved, seed
        in_file = tuple(range(problem.count))
        assert found.order == in_file or peak_of(problem, in_file) > least


def test_least_peak_of_networks() -> None:
    # In 1831 a way down that leaves out another state would cost five bytes.
    for seed in (*range(60), 1831):
        problem = random_network(24, seed)
        found = find_order(problem)
        assert_honest(problem, found, brute_force(problem))
        assert found.proved


@pytest.mark.parametrize("hundred", range(10, 13))
def test_each_part_of_the_search_by_itself(hundred: int) -> None:
    for seed in range(100 * hundred, 100 * hundred + 100):
        problem, endless = random_problem(seed), Limits(0, 10**9)
        lattice, least = Lattice(problem), brute_force(problem)
        node, bound = best_first(lattice, endless, Budget(10**9))
        widest = beam(lattice, 10**9, endless, Budget(10**9))
        narrow = beam(lattice, 1, endless, Budget(10**9))
        assert node is not None
        assert widest is not None
        assert narrow is not None
        assert bound == node.peak == peak_of(problem, order_of(node)) == least, seed
        assert widest.peak == peak_of(problem, order_of(widest)) == least
        assert narrow.peak == peak_of(problem, order_of(narrow)) >= least
        if least:
            assert best_first(lattice, Limits(0, least), Budget(10**9)) == (None, least)
        cuts = [least_load(problem, lattice, step) for step in range(problem.count)]
        assert step_bound(problem) <= max(cuts, default=0) <= least


def test_minimum_cut_is_the_least_load_of_each_step() -> None:
    for seed in range(2000, 2100):
        problem = random_problem(seed, 6)
        lattice = Lattice(problem)
        for step in range(problem.count):
            done = (frozenset(k for k in range(problem.count) if d >> k & 1) for d in range(64))
            before = [
                s for s in range(problem.count) if lattice.before[step] >> s & 1 and s != step
            ]
            able = [
                d
                for d in done
                if step not in d
                and d.issuperset(before)
                and all(i.producer in {None, *d} for i in problem.items if i.readers & d)
            ]
            least = min(load_of(problem, d, step) for d in able)
            assert least_load(problem, lattice, step) == least, (seed, step)


def test_loads() -> None:
    for seed in range(3000, 3100):
        problem = random_problem(seed)
        order = find_order(problem).order
        expected = [load_of(problem, frozenset(order[:k]), s) for k, s in enumerate(order)]
        assert loads(problem, order) == expected


def test_window_has_the_loads_of_the_whole() -> None:
    for seed in range(4000, 4100):
        problem = random_problem(seed)
        order = find_order(problem).order
        for start in range(problem.count):
            for stop in range(start + 1, problem.count + 1):
                steps = sorted(order[start:stop])
                inside = [steps.index(step) for step in order[start:stop]]
                window = window_of(problem, order, start, stop)
                assert loads(window, inside) == loads(problem, order)[start:stop]


@pytest.mark.parametrize("seconds", [0.0, 1e-5, 3e-5, 1e-4, 1e-3])
def test_any_budget_gives_an_order_and_a_bound(seconds: float) -> None:
    for seed in range(5000, 5060):
        problem = random_problem(seed, 9)
        assert_honest(problem, find_order(problem, seconds), brute_force(problem))


def test_no_time_gives_the_order_of_the_file() -> None:
    problem = random_network(60, 0)
    found = find_order(problem, 0.0)
    assert found.order == tuple(range(60))
    assert found.states == 0
    assert not found.proved


def test_more_time_is_better() -> None:
    problem = random_network(64, 1)
    exact = find_order(problem)
    assert exact.proved
    quick = find_order(problem, 0.02)
    assert_honest(problem, quick, exact.peak)
    assert not quick.proved
    assert quick.peak < peak_of(problem, range(64))


def test_windows_improve_what_does_not_close() -> None:
    problem = random_network(128, 0)
    found = find_order(problem, 1.0)
    greedy = beam(Lattice(problem), 8, Limits(0, 10**9), Budget(10**9))
    assert_works(problem, found.order)
    assert greedy is not None
    assert found.lower_bound < found.peak < greedy.peak


@pytest.mark.parametrize("seconds", [0.01, 0.02, 0.05, 0.1, 0.2])
def test_figures_are_those_of_the_order_wherever_the_budget_ends(seconds: float) -> None:
    for seed in range(8):
        problem = random_network(56, seed)
        exact = find_order(problem)
        assert exact.proved
        assert_honest(problem, find_order(problem, seconds), exact.peak)


def test_same_order_every_time() -> None:
    problem = random_network(96, 2)
    assert find_order(problem, 0.3) == find_order(problem, 0.3)


def test_file_order_stays_where_it_does_no_harm() -> None:
    # Two halves in a row; only the second one is better in another order.
    def fork(first: int, left: int, right: int) -> list[Item]:
        ends = [(1, left, {3}), (2, right, {4}), (3, 1, {5}), (4, 1, {5})]
        items = [Item(f"{first}", 4, first, frozenset({first + 1, first + 2}))]
        for step, size, readers in ends:
            after = frozenset(first + reader for reader in readers)
            items.append(Item(f"{first + step}", size, first + step, after))
        return items

    items = (*fork(0, 2, 2), Item("5", 4, 5, frozenset({6})), *fork(6, 30, 30))
    problem = Problem(12, items, (0,) * 12)
    found = find_order(problem)
    assert peak_of(problem, range(12)) == 64
    assert found.peak == brute_force(problem) == 35
    assert found.order[:6] == tuple(range(6))


def test_graphs_that_do_not_work_are_refused() -> None:
    with pytest.raises(AssertionError, match="1 extras for 2 steps"):
        Problem(2, (), (0,))
    with pytest.raises(AssertionError, match="x: read before it is written"):
        Problem(2, (Item("x", 1, 1, frozenset({0})),), (0, 0))


def test_describe() -> None:
    assert describe(Found((), 7, 7, 1234)) == "optimal (proved, 1,234 states)"
    assert describe(Found((), 1001, 1000, 5)) == "at most 0.1 % above the lower bound"
    assert describe(Found((), 10_001, 10_000, 5)) == "at most 0.1 % above the lower bound"
    assert describe(Found((), 3, 2, 5)) == "at most 50.0 % above the lower bound"


@pytest.mark.parametrize("name", sorted(OPTIMA))
def test_known_optima(shared: Path, name: str) -> None:
    problem = load_graph(shared / "data" / "graphs" / f"{name}.json").problem()
    found = find_order(problem)
    assert_honest(problem, found, OPTIMA[name])
    assert found.proved
    in_file = tuple(range(problem.count))
    assert found.order == in_file or peak_of(problem, in_file) > found.peak


def test_benchmark_found_the_known_optima() -> None:
    results = Path(__file__).parents[1] / "benchmarks" / "results" / "order.json"
    graphs = json.loads(results.read_text(encoding="utf-8"))["graphs"]
    assert all(graph["proved"] for graph in graphs.values())
    assert {name: graphs[name]["peak"] for name in OPTIMA} == OPTIMA
    assert sum(graph["seconds"] for graph in graphs.values()) < 10


def test_graph_file(shared: Path) -> None:
    graph = load_graph(shared / "data" / "graphs" / "ic_resnet8.json")
    assert graph.tensors["t26"] == (16, 16, 32)
    strided = graph.ops[4]
    assert (strided.kind, strided.inputs, strided.output) == ("conv", ("t25",), "t26")
    assert (strided.kernel, strided.stride) == ((3, 3), (2, 2))
    assert (strided.pad_begin, strided.pad_end, strided.macs) == ((0, 0), (1, 1), 1_179_648)
