"""What other tools need for the same models: measured or published figures and their source."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Peer:
    """One tool on one model: bytes, and millions of instructions and modelled cycles a core."""

    tool: str
    ram: int
    flash: str
    m0: tuple[float, float] | None
    m4: tuple[float, float]


# Measured by us in 2026-08 with arm-none-eabi-gcc 12.2 under QEMU 7.2: one inference, outputs
# checked, instructions exact, cycles by Arm's timing tables.
# TFLite Micro + CMSIS-NN at its release flags (core -Os, kernels -O2): arena, statics and stack;
# flash with the model; both on the M0.
TFLM = "TFLite Micro + CMSIS-NN"
# OctoML's C of MLPerf Tiny v1.0, rebuilt at -O3 with the CMSIS-NN of that day, on the M4:
# workspace and stack without the model's input; flash is the linked program (K as measured).
TVM = "TVM + CMSIS-NN"
# onnx2c ea045cc on the QDQ models, -O2 on the M0, -O3 on the M4: statics and stack on the M0
# without the model's input and output; flash without the soft-float library.
ONNX2C = "onnx2c"

PEERS: dict[str, tuple[Peer, ...]] = {
    "ic": (
        Peer(TFLM, 56_352, "155,568", (97.56, 142.2), (29.78, 36.7)),
        Peer(TVM, 66_112 + 968, "106.5 K", None, (29.87, 36.7)),
        Peer(ONNX2C, 409_600 + 228, "93,332", (2149, 3111), (122.2, 191.7)),
    ),
    "kws": (
        Peer(TFLM, 24_220, "113,468", (29.01, 41.9), (7.58, 9.17)),
        Peer(TVM, 17_232 + 744, "55.7 K", None, (8.44, 10.4)),
        Peer(ONNX2C, 80_640 + 196, "38,792", (460.7, 661), (21.06, 38.7)),
    ),
    "vww": (
        Peer(TFLM, 102_108, "392,820", (86.90, 125.8), (23.78, 29.1)),
        Peer(TVM, 64_800 + 1_032, "293.7 K", None, (24.71, 30.4)),
        Peer(ONNX2C, 558_080 + 236, "267,534", (1229, 1815), (66.0, 116.7)),
    ),
    "ad": (
        Peer(TFLM, 4_020, "310,708", (1.763, 2.47), (0.583, 0.743)),
        Peer(TVM, 1_160 + 560, "278.6 K", None, (0.607, 0.77)),
        Peer(ONNX2C, 335_360 + 84, "274,492", (88.2, 126), (3.28, 5.97)),
    ),
}


@dataclass(frozen=True)
class Published:
    """Median milliseconds on hardware, of MLPerf Tiny (mlcommons/tiny_results_<round>)."""

    tool: str
    core: str
    mhz: int
    milliseconds: dict[str, float]


PUBLISHED = (
    Published(
        "Bosch HALE, v1.2",
        "M0+ (STM32G0B1)",
        64,
        {"ic": 1522.07, "kws": 474.61, "vww": 1414.43, "ad": 40.89},
    ),
    Published(
        "ST X-CUBE-AI 9.0, v1.2",
        "M4 (STM32L4R5)",
        120,
        {"ic": 165.13, "kws": 43.19, "vww": 88.93, "ad": 5.26},
    ),
    Published(
        "Plumerai, v1.1",
        "M4 (STM32L4R5)",
        120,
        {"ic": 167.76, "kws": 47.78, "vww": 98.76, "ad": 4.05},
    ),
)

# Arena bytes of TFLite Micro with CMSIS-NN on the M0, measured as above.
TFLM_ARENA = {"ic": 54_992, "kws": 22_832, "vww": 100_720, "ad": 3_024}
