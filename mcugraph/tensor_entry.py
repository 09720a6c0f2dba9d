"""A tensor as the report has it: where it stands and how its bytes are read."""

from __future__ import annotations

from mcugraph.layout import Part
from mcugraph.plan import Plan
from mcugraph.tasks import rows_of


def tensor_entry(plan: Plan, name: str) -> dict[str, object]:
    """Size, place and order of a run-time tensor, and what its integers mean."""
    tensor, layout = plan.graph.tensors[name], plan.layouts.of[name]
    quant, part = tensor.quant, _part(plan, name)
    inside = {} if part is None else {"part": {"of": part.whole, **_apart(part)}}
    return {
        **inside,
        "offset": plan.offset(name) if plan.place(name) in plan.memory.offsets else None,
        "bytes": tensor.bytes,
        "rows": rows_of(plan.layouts, name),
        "ring": plan.rings.get(plan.place(name)),
        "dtype": tensor.dtype,
        "shape": list(tensor.shape),
        "memory_dims": list(layout.dims),
        "memory_order": list(layout.order),
        "scale": None if quant is None else float(quant.scale.item()),
        "zero_point": None if quant is None else int(quant.zero_point.item()),
        "onnx": plan.graph.interface.get(name),
    }


def _part(plan: Plan, name: str) -> Part | None:
    """Where a tensor stands in a wider one; a view of one with parts is all of it."""
    root = plan.layouts.root(name)
    wholes = {part.whole for part in plan.layouts.parts.values()}
    if root == plan.layouts.holder(name) != name and root in wholes:
        return Part(root, 0, plan.graph.tensors[name].bytes, 0, aligned=False)
    return plan.layouts.part(name)


def _apart(part: Part) -> dict[str, int]:
    """The bytes of a pixel, and from one to the next; 0 where none are apart."""
    return {"pixel": part.pixel if part.step else 0, "step": part.step}
