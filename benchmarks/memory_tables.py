"""The tables of RAM by network and technique, and of placing hard instances, from their results."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

RESULTS = Path(__file__).parent / "results"
# What else is published for the same topology: bytes, and whose they are.
ST = "STM32Cube.AI (ST's model zoo)"
PUBLISHED = {
    "ic_resnet8": f"64,010: {ST}",
    "vww_mbv1_025_96": f"68,567: {ST}",
    "mobilenetv1_025_224": f"279,511: {ST}",
    "mobilenetv2_035_224": f"852,623: {ST}",
    "mobilenetv2_100_224": f"172 K, patches: MCUNetV2 (arXiv 2110.15352); 1,768,468: {ST}",
    "mcunet_vww_tfl": "92 K: TinyEngine, 113 K: Cube.AI, 220 K: TFLM (TinyEngine's README)",
    "msf_mbv2_w035_r144": "67,905 at 1.1, 21,288 at 1.3 times the work: msf-CNN (arXiv 2505.11483)",
    "msf_mcunetv2_vww5_r80": "32,792 at 1.1, 17,760 at 1.3 times the work: msf-CNN",
    "efficientnet_lite0_224": "-",
    "resnet18_224": "-",
    "squeezenet1_1_224": "-",
    "randwire_ws32_s0": "-",
}
TECHNIQUES = ("whole", "layerwise", "fused", "pushed")
# MiniMalloc 9f5cf81, built with -O3 and asked for the capacity, on a machine like ours: seconds.
MINIMALLOC = {
    "A": 4.73,
    "B": 3.50,
    "C": 0.65,
    "D": 2.51,
    "E": 3.33,
    "F": 4.73,
    "G": 1.06,
    "H": 1.57,
    "I": 2.90,
    "J": 0.83,
    "K": 0.58,
}


def networks() -> str:
    """Arenas by technique, beside what is published."""
    figures = _results("graphs")["models"]
    lines = [
        "| network | whole tensors | + overlap | + row by row | + pushed rows | published |",
        "| --- | --: | --: | --: | --: | --- |",
    ]
    for name, published in PUBLISHED.items():
        sizes = (_bytes(figures[name][key]) for key in TECHNIQUES)
        lines.append(f"| {' | '.join((name, *sizes, published))} |")
    return "\n".join(lines)


def instances() -> str:
    """MiniMalloc's instances: our arenas above the bound, and seconds to fit into the capacity."""
    lines = [
        "| | buffers | at least | largest first | default | s | thorough | s "
        "| fits 1 MiB: s | CP-SAT: s | MiniMalloc: s |",
        "| --- | --: | --: | --: | --: | --: | --: | --: | --: | --: | --: |",
    ]
    for name, figures in sorted(_results("placement")["instances"].items()):
        bound = figures["thorough"]["lower_bound"]
        cells = [name, str(figures["buffers"]), _bytes(bound)]
        cells.append(_above(figures["largest_first"], bound))
        for effort in ("default", "thorough"):
            cells += [_above(figures[effort]["arena"], bound), f"{figures[effort]['seconds']:.1f}"]
        cells += [_seconds(figures["fits"]), _seconds(figures["cp_sat"])]
        lines.append(f"| {' | '.join((*cells, f'{MINIMALLOC[name]:.1f}'))} |")
    return "\n".join(lines)


def _results(name: str) -> dict[str, Any]:
    record: dict[str, Any] = json.loads((RESULTS / f"{name}.json").read_text(encoding="utf-8"))
    return record


def _bytes(size: int | None) -> str:
    return "-" if size is None else f"{size:,}"


def _above(arena: int, bound: int) -> str:
    return "optimal" if arena == bound else f"+{arena / bound - 1:.1%}"


def _seconds(found: dict[str, Any] | None) -> str:
    if found is None:
        return "-"
    return f"{found['seconds']:.1f}" if found["fits"] else f"not in {found['seconds']:.0f}"
