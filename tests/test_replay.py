"""The judge of plans: it accepts what the planner makes and refuses each way to break it."""

from collections.abc import Iterator, Mapping
from dataclasses import replace
from functools import cache

import numpy as np
import pytest
from models import MODELS
from nets import NETS

from mcugraph.load import load_model
from mcugraph.lower.call import Call
from mcugraph.optimize import UNLIMITED, rewrite
from mcugraph.plan import Aim, Plan, check_plan, make_plan
from mcugraph.read import read_graph
from mcugraph.replay import Event, Placed, Shadow
from mcugraph.rings import with_rings
from mcugraph.targets import load as load_target

ALL = {**MODELS, **NETS}


@cache
def plan_of(name: str, enough: int = 0) -> Plan:
    graph = read_graph(rewrite(load_model(ALL[name](), {})))
    return make_plan(graph, load_target("host"), "net", Aim(allow_float=True, enough=enough))


@pytest.mark.parametrize("enough", [0, UNLIMITED])
@pytest.mark.parametrize("name", ALL)
def test_all_plans_pass(name: str, enough: int) -> None:
    check_plan(plan_of(name, enough))


def with_arena(plan: Plan, arena: int) -> Plan:
    return replace(plan, memory=replace(plan.memory, arena=arena))


def with_offsets(plan: Plan, offsets: Mapping[str, int]) -> Plan:
    memory = replace(plan.memory, offsets={**plan.memory.offsets, **offsets}, arena=1 << 20)
    return replace(plan, memory=memory)


@pytest.mark.parametrize("name", ALL)
def test_an_arena_one_byte_shorter_is_refused(name: str) -> None:
    plan = plan_of(name)
    ends = [plan.memory.offsets[b.name] + b.size for b in plan.memory.buffers]
    check_plan(with_arena(plan, max(ends)))
    with pytest.raises(AssertionError, match="outside the arena"):
        check_plan(with_arena(plan, max(ends) - 1))


RINGS = [name for name in NETS if max(plan_of(name).rings.values(), default=1) > 1]


@pytest.mark.parametrize("name", RINGS)
def test_each_ring_one_row_shallower_is_refused(name: str) -> None:
    """But for a row that only the other direction would need."""
    plan = plan_of(name)
    spare = []
    for ring, depth in plan.rings.items():
        if depth > 1:
            rings = {**plan.rings, ring: depth - 1}
            calls = with_rings(plan.layouts, plan.calls, rings, plan.merged)
            with pytest.raises(AssertionError, match="does not know the depth"):
                check_plan(replace(plan, rings=rings))
            if passes(replace(plan, rings=rings, calls=calls)):
                spare.append(ring)
    assert len(spare) <= 1


@pytest.mark.parametrize("name", NETS)
def test_what_is_moved_onto_a_tensor_in_use_is_refused(name: str) -> None:
    plan = plan_of(name)
    for section in plan.sections:
        step = section.steps[0]
        source = plan.place(plan.graph.activations(step)[0])
        if plan.calls[step.name][0].scratch:
            scratch = next(b for b in plan.memory.buffers if at(plan, b.name, step))
            with pytest.raises(AssertionError, match=r"scratch on an input|lost"):
                check_plan(with_offsets(plan, {scratch.name: plan.memory.offsets[source]}))


def at(plan: Plan, name: str, step: object) -> bool:
    number = [s.name for s in plan.steps].index(getattr(step, "name", ""))
    return name in (f"(scratch of step {number})", f"(sums of step {number})")


def passes(plan: Plan) -> bool:
    try:
        check_plan(plan)
    except AssertionError:
        return False
    return True


def swapped(events: tuple[int, ...]) -> Iterator[tuple[int, ...]]:
    """The events with two neighbours of different steps the other way round."""
    for place in range(len(events) - 1):
        one, two = events[place : place + 2]
        if one != two:
            yield (*events[:place], two, one, *events[place + 2 :])


@pytest.mark.parametrize("name", RINGS)
def test_a_row_before_what_it_reads_is_refused(name: str) -> None:
    plan = plan_of(name)
    for number, section in enumerate(plan.sections):
        broken = list(plan.sections)
        found = []
        for events in swapped(section.events):
            broken[number] = replace(section, events=events)
            found.append(passes(replace(plan, sections=tuple(broken))))
        assert sum(found) <= len(found) / 2
        if section.events:
            broken[number] = replace(section, events=section.events[:-1])
            with pytest.raises(AssertionError, match="lost"):
                check_plan(replace(plan, sections=tuple(broken)))


@pytest.mark.parametrize("name", NETS)
def test_the_wrong_direction_is_refused_where_input_and_output_overlap(name: str) -> None:
    plan = plan_of(name)
    for number, section in enumerate(plan.sections):
        if section.upwards:
            broken = list(plan.sections)
            broken[number] = replace(section, upwards=False)
            with pytest.raises(AssertionError, match=r"lost|being read"):
                check_plan(replace(plan, sections=tuple(broken)))


def copy(rows: int, kernel: str = "take", depth: int | None = None) -> Call:
    fields = {"x_depth": rows, "y_depth": depth or rows, "rows": np.arange(rows)}
    return Call(kernel, ("x",), "y", fields, rows)


def run(call: Call, x: Placed, y: Placed, scratch: tuple[int, int] = (0, 0)) -> None:
    shadow = Shadow(64, {"x": x, "y": y})
    shadow.fill("x")
    for row in range(call.rows):
        shadow.run(Event(call, row, row + 1, scratch))
    shadow.need("y")


@pytest.mark.parametrize(
    ("kernel", "offset", "words"),
    [
        ("take", 0, ""),
        ("take", 6, ""),
        ("take", 7, "is being read|lost"),
        ("take", 15, "is being read|lost"),
        ("map_s8", 10, ""),
        ("map_s8", 8, ""),
        ("map_s8", 11, "is being read|lost"),
        ("take", 50, "outside"),
    ],
)
def test_distances(kernel: str, offset: int, words: str) -> None:
    """x is 4 rows of 4 bytes at 10: a copy may start 4 below it, element by element at it."""
    x, y = Placed("x", 10, 4, 4, 4), Placed("y", offset, 4, 4, 4)
    if not words:
        run(copy(4, kernel), x, y)
        return
    with pytest.raises(AssertionError, match=words):
        run(copy(4, kernel), x, y)


def test_scratch_may_meet_neither_inputs_nor_the_output() -> None:
    x, y = Placed("x", 0, 4, 4, 4), Placed("y", 20, 4, 4, 4)
    run(copy(4), x, y, (40, 48))
    with pytest.raises(AssertionError, match="scratch on an input"):
        run(copy(4), x, y, (2, 6))
    with pytest.raises(AssertionError, match="being read"):
        run(copy(4), x, y, (34, 38))
    with pytest.raises(AssertionError, match="scratch ends outside"):
        run(copy(4), x, y, (60, 66))


def test_a_view_of_other_rows_reads_the_bytes_of_its_holder() -> None:
    x, view, y = Placed("x", 0, 2, 8, 2), Placed("x", 0, 4, 4, 4), Placed("y", 20, 4, 4, 4)
    call = replace(copy(4), inputs=("view",))
    shadow = Shadow(64, {"x": x, "view": view, "y": y})
    with pytest.raises(AssertionError, match="finds row 0 of view lost"):
        shadow.run(Event(call, 0, 1, (0, 0)))
    shadow.fill("x")
    shadow.run(Event(call, 0, 4, (0, 0)))
    shadow.need("y")
