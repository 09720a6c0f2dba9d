"""Channel groups: written out for each operator and for ten networks, recounted for random ones."""

import random
import re

import handmade
import models
import numpy as np
import onnx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from labelled import Coordinate, Labelled, removed, silenced
from models import Net
from onnx import ModelProto, TensorProto, helper
from test_laws import outputs

from mcugraph.passes.channels import Channels, find_channels
from mcugraph.testing import Golden


def start(net: Net, width: int = 4, size: int = 8) -> str:
    """A convolution `a` of the input."""
    return net.conv("a", net.input("x", 1, 3, size, size), width, 3, 3, 3)


def groups_of(model: ModelProto) -> list[str]:
    return [str(group) for group in find_channels(model).groups]


def ending(net: Net, x: str, width: int) -> list[str]:
    """The groups of a network that a convolution `z` ends."""
    return groups_of(net.model(net.conv("z", x, 2, width, 1, 1)))


def reasons(model: ModelProto) -> dict[str, str]:
    """Why the axes of weights are fixed."""
    return {f"{f.name}/{f.axis}": f.reason for f in find_channels(model).fixed if f.role}


# Element by element


@pytest.mark.parametrize(
    "op", ["Relu", "CastLike", "Sigmoid", "Identity", "Dropout", "Erf", "HardSwish"]
)
def test_elementwise(op: str) -> None:
    net = Net(18)
    like = [net.const("type", 0, np.float32)] if op == "CastLike" else []
    y = net(op, start(net), *like, out="y")
    assert ending(net, y, 4) == ["a.weight: 4 at a.weight/0 a.bias/0 a/1 y/1 z.weight/1"]


@pytest.mark.parametrize(
    ("shape", "place"),
    [
        ((4, 1, 1), " c/0"),
        ((1, 4, 1, 1), " c/1"),
        ((1, 4, 8, 8), " c/1"),
        ((1,), ""),
        ((8, 8), ""),
        ((1, 1, 8, 1), ""),
    ],
)
def test_constants_are_broadcast(shape: tuple[int, ...], place: str) -> None:
    net = Net(18)
    y = net("Mul", start(net), net.weight("c", *shape), out="y")
    expected = f"a.weight: 4 at a.weight/0 a.bias/0 a/1{place} y/1 z.weight/1"
    assert ending(net, y, 4) == [expected]


def test_prelu_clip_and_where() -> None:
    net = Net(18)
    y = net("PRelu", start(net), net.weight("slope", 4, 1, 1), out="p")
    y = net("Clip", y, net.const("low", 0, np.float32), net.const("high", 6, np.float32), out="c")
    mask = net.const("mask", np.ones((4, 1, 1)), np.bool_)
    y = net("Where", mask, y, net.const("none", 0, np.float32), out="y")
    assert ending(net, y, 4) == [
        "a.weight: 4 at a.weight/0 a.bias/0 a/1 slope/0 p/1 c/1 mask/0 y/1 z.weight/1"
    ]


def test_single_channel_of_an_operand_stays() -> None:
    net = Net(18)
    x = start(net)
    y = net("Mul", x, net.conv("gate", x, 1, 4, 1, 1), out="y")
    model = net.model(net.conv("z", y, 2, 4, 1, 1))
    assert groups_of(model) == [
        "a.weight: 4 at a.weight/0 a.bias/0 a/1 gate.weight/1 y/1 z.weight/1"
    ]
    assert reasons(model)["gate.weight/0"] == "'gate.weight' has no other channel"


def test_normalisations_per_channel() -> None:
    net = Net(18)
    y = net.norm("bn", start(net), 4)
    y = net("InstanceNormalization", y, net.weight("s", 4), net.weight("b", 4), out="y")
    assert ending(net, y, 4) == [
        "a.weight: 4 at a.weight/0 a.bias/0 a/1 bn.weight/0 bn.bias/0 bn.mean/0 bn.var/0 bn/1 "
        "s/0 b/0 y/1 z.weight/1"
    ]


# Convolutions and products


def test_depthwise() -> None:
    net = Net(18)
    y = net.conv("d", start(net), 4, 1, 3, 3, group=4)
    assert ending(net, y, 4) == [
        "a.weight: 4 at a.weight/0 a.bias/0 a/1 d.weight/0 d.bias/0 d/1 z.weight/1"
    ]


def test_depthwise_multiplies_channels() -> None:
    net = Net(18)
    y = net.conv("d", start(net), 8, 1, 3, 3, group=4)
    model = net.model(net.conv("z", y, 2, 8, 1, 1))
    group = find_channels(model).group("a")
    assert str(group).endswith("d.weight/0*2 d.bias/0*2 d/1*2 z.weight/1*2")
    assert group.channels[1] == ((1,), (1,), (1,), (2, 3), (2, 3), (2, 3), (2, 3))


def test_groups_share_positions() -> None:
    net = Net(18)
    y = net.conv("g", start(net, 6), 4, 3, 3, 3, group=2)
    channels = find_channels(net.model(net.conv("z", y, 2, 4, 1, 1)))
    assert [str(group) for group in channels.groups] == [
        "a.weight: 3 at a.weight/0*2 a.bias/0*2 a/1*2 g.weight/1",
        "g.weight: 2 at g.weight/0*2 g.bias/0*2 g/1*2 z.weight/1*2",
    ]
    assert channels.groups[0].channels[2] == ((2, 5), (2, 5), (2, 5), (2,))


def test_groups_of_one_output_go_whole() -> None:
    net = Net(18)
    y = net.conv("g", start(net, 6), 3, 2, 3, 3, group=3)
    assert ending(net, y, 3) == [
        "a.weight: 3 at a.weight/0*2 a.bias/0*2 a/1*2 g.weight/0 g.bias/0 g/1 z.weight/1"
    ]


@pytest.mark.parametrize(
    ("group", "shape", "expected"),
    [
        (
            1,
            (4, 6, 2, 2),
            [
                "a.weight: 4 at a.weight/0 a.bias/0 a/1 t.weight/0",
                "t.weight: 6 at t.weight/1 t.bias/0 t/1 z.weight/1",
            ],
        ),
        (
            2,
            (4, 3, 2, 2),
            [
                "a.weight: 2 at a.weight/0*2 a.bias/0*2 a/1*2 t.weight/0*2",
                "t.weight: 3 at t.weight/1 t.bias/0*2 t/1*2 z.weight/1*2",
            ],
        ),
        (
            4,
            (4, 1, 2, 2),
            ["a.weight: 4 at a.weight/0 a.bias/0 a/1 t.weight/0 t.bias/0 t/1 z.weight/1"],
        ),
    ],
)
def test_transposed_convolution(group: int, shape: tuple[int, ...], expected: list[str]) -> None:
    net = Net(18)
    width = shape[1] * group
    w, b = net.weight("t.weight", *shape), net.weight("t.bias", width)
    y = net("ConvTranspose", start(net), w, b, out="t", group=group, strides=[2, 2])
    assert ending(net, y, width) == expected


def test_convolution_of_sequences() -> None:
    net = Net(18)
    y = net.conv("a", net.input("x", 1, 3, 16), 4, 3, 3)
    y = net.conv("z", y, 2, 4, 3)
    assert groups_of(net.model(y)) == ["a.weight: 4 at a.weight/0 a.bias/0 a/1 z.weight/1"]


@pytest.mark.parametrize("turned", [0, 1])
@pytest.mark.parametrize("bias", [(6,), (1, 6), (2, 6), (1, 1)])
def test_gemm(turned: int, bias: tuple[int, ...]) -> None:
    net = Net(18)
    w = net.weight("w", *((6, 3) if turned else (3, 6)))
    y = net("Gemm", net.input("x", 2, 3), w, net.weight("b", *bias), out="y", transB=turned)
    y = net(
        "Gemm", net("Transpose", y, perm=[1, 0], out="t"), net.weight("v", 5, 6), transA=1, transB=1
    )
    place = f"b/{len(bias) - 1} " if bias[-1] > 1 else ""
    assert groups_of(net.model(y)) == [f"w: 6 at w/{1 - turned} {place}y/1 t/0 v/1"]


def test_constant_on_the_left_of_a_product() -> None:
    net = Net(18)
    y = net("MatMul", net.weight("w", 6, 3), net.input("x", 3, 5), out="y")
    y = net("MatMul", net.weight("v", 4, 6), y)
    assert groups_of(net.model(y)) == ["w: 6 at w/0 y/0 v/1"]


def test_product_of_two_tensors_sums_over_channels() -> None:
    """An attention of one head: queries and keys go together, values with what reads them."""
    net = Net(18)
    x = net.input("x", 1, 7, 5)
    q, k, v = (net("MatMul", x, net.weight(f"{n}.weight", 5, 6), out=n) for n in "qkv")
    y = net("MatMul", q, net("Transpose", k, perm=[0, 2, 1], out="t"), out="s")
    y = net("MatMul", net("Softmax", y, axis=-1), v, out="y")
    channels = find_channels(net.model(net("MatMul", y, net.weight("z.weight", 6, 3))))
    assert [str(group) for group in channels.groups] == [
        "q.weight: 6 at q.weight/1 q/2 k.weight/1 k/2 t/1",
        "v.weight: 6 at v.weight/1 v/2 y/2 z.weight/0",
    ]
    assert channels.groups[0].consumers == ()


def test_vectors_in_products() -> None:
    net = Net(18)
    y = net("MatMul", net.input("x", 3), net.weight("w", 3, 6), out="y")
    y = net("MatMul", net("MatMul", net.weight("v", 4, 6), y, out="u"), net.weight("o", 4))
    assert groups_of(net.model(y)) == ["w: 6 at w/1 y/0 v/1", "v: 4 at v/0 u/0 o/0"]


def test_embedding() -> None:
    net = Net(18)
    table, ids = net.weight("table", 9, 6), net.input("ids", 1, 5, kind=TensorProto.INT64)
    y = net("Add", net("Gather", table, ids, out="e"), net.weight("position", 1, 5, 6), out="s")
    model = net.model(net("MatMul", y, net.weight("z", 6, 3)))
    assert groups_of(model) == ["table: 6 at table/1 e/2 position/2 s/2 z/0"]


@pytest.mark.parametrize(("op", "gates"), [("RNN", 1), ("GRU", 3), ("LSTM", 4)])
@pytest.mark.parametrize("direction", ["forward", "bidirectional"])
def test_recurrent(op: str, gates: int, direction: str) -> None:
    net = Net(18)
    count = 2 if direction == "bidirectional" else 1
    x = net("MatMul", net.input("x", 7, 1, 3), net.weight("e", 3, 5), out="t")
    w, r = net.weight("w", count, gates * 6, 5), net.weight("r", count, gates * 6, 6)
    b, h = net.weight("b", count, 2 * gates * 6), net.weight("h", count, 1, 6)
    more = [net.const("steps", [7], np.int32), h]
    if op == "LSTM":
        more += [net.weight("c", count, 1, 6), net.weight("p", count, 18)]
    kw = {"hidden_size": 6, "direction": direction}
    y, last = net.many(op, x, w, r, b, *more, out=["y", "last"], **kw)
    net("Relu", last, out="unused")
    y = net(
        "Reshape",
        net("Transpose", y, perm=[0, 2, 1, 3]),
        net.const("flat", [7, 1, -1], np.int64),
        out="f",
    )
    channels = find_channels(net.model(net("MatMul", y, net.weight("z", 6 * count, 2))))
    assert str(channels.groups[0]) == "e: 5 at e/1 t/2 w/2"
    group = channels.group("r")
    assert (group.name, group.producers, group.consumers) == ("w", ("w", "r"), ("r", "z"))
    assert group.tensors[0] == "y"
    places = {str(place): group.channels[1][i] for i, place in enumerate(group.places)}
    assert places["w/1"] == places["r/1"] == tuple(1 + 6 * gate for gate in range(gates))
    assert places["b/1"] == tuple(1 + 6 * gate for gate in range(2 * gates))
    assert places["r/2"] == places["h/2"] == places["y/3"] == (1,)
    assert places["f/2"] == places["z/0"] == tuple(1 + 6 * i for i in range(count))
    if op == "LSTM":
        assert (places["c/2"], places["p/1"]) == ((1,), (1, 7, 13))


def test_hidden_state_in_the_interface_is_fixed() -> None:
    net = Net(18)
    x, h = net.input("x", 7, 1, 3), net.input("h", 1, 1, 6)
    w, r = net.weight("w", 1, 18, 3), net.weight("r", 1, 18, 6)
    y, _ = net.many("GRU", x, w, r, "", "", h, out=["y", "last"], hidden_size=6)
    model = net.model(net("MatMul", y, net.weight("z", 6, 2)))
    assert groups_of(model) == []
    assert reasons(model)["w/1"] == "the graph input 'h' has it"


def test_last_state_alone() -> None:
    net = Net(18)
    w, r = net.weight("w", 1, 18, 3), net.weight("r", 1, 18, 6)
    node = helper.make_node("GRU", [net.input("x", 7, 1, 3), w, r], ["", "last"], hidden_size=6)
    net.nodes.append(node)
    y = net("Squeeze", "last", net.const("axis", [0], np.int64), out="y")
    assert groups_of(net.model(net.gemm("z", y, 2, 6))) == [
        "w: 6 at w/1*3 r/1*3 r/2 last/2 y/1 z.weight/1"
    ]


# Moves


def test_concat() -> None:
    net = Net(18)
    x = start(net)
    y = net("Concat", x, net.conv("b", x, 3, 4, 1, 1), x, axis=1, out="y")
    channels = find_channels(net.model(net.conv("z", y, 2, 11, 1, 1)))
    assert [str(group) for group in channels.groups] == [
        "a.weight: 4 at a.weight/0 a.bias/0 a/1 b.weight/1 y/1*2 z.weight/1*2",
        "b.weight: 3 at b.weight/0 b.bias/0 b/1 y/1 z.weight/1",
    ]
    assert channels.groups[0].channels[1][-1] == (1, 8)
    assert channels.groups[1].channels[1][-1] == (5,)


@pytest.mark.parametrize("sizes", [None, [2, 2], [1, 3]])
def test_split(sizes: list[int] | None) -> None:
    net = Net(18)
    x = [start(net)] if sizes is None else [start(net), net.const("sizes", sizes, np.int64)]
    kw = {"num_outputs": 2} if sizes is None else {}
    parts = net.many("Split", *x, out=["l", "r"], axis=1, **kw)
    model = net.model(net.conv("z", net("Concat", *parts[::-1], axis=1, out="y"), 2, 4, 1, 1))
    rest = "at {0}/1 a.weight/0 a.bias/0 a/1 y/1 z.weight/1"
    if sizes == [1, 3]:
        # The left part would be empty without its only channel.
        assert groups_of(model) == ["a.weight: 3 at a.weight/0 a.bias/0 a/1 r/1 y/1 z.weight/1"]
        assert reasons(model)["a.weight/0"] == "channels 0: 'l' has no other channel"
        return
    assert groups_of(model) == [f"l: 2 {rest.format('l')}", f"r: 2 {rest.format('r')}"]
    group = find_channels(model).group("r")
    assert [indices for _, indices, *_ in group.channels] == [(2,), (3,)]


def test_slice_and_gather() -> None:
    net = Net(18)
    x = start(net, 6)
    args = [net.const(f"s{i}", [v], np.int64) for i, v in enumerate((-1, -99, 1, -2))]
    y = net("Slice", x, *args, out="odd")
    z = net("Gather", x, net.const("i", [0, -2, 0], np.int64), axis=1, out="even")
    y = net("Concat", y, z, axis=1, out="y")
    channels = find_channels(net.model(net.conv("z", y, 2, 6, 1, 1)))
    assert [str(group) for group in channels.groups] == [
        "a.weight[0]: 1 at a.weight/0 a.bias/0 a/1 even/1*2 y/1*2 z.weight/1*2",
        "odd: 3 at odd/1 a.weight/0 a.bias/0 a/1 y/1 z.weight/1",
        "a.weight[2]: 1 at a.weight/0 a.bias/0 a/1",
        "a.weight[4]: 1 at a.weight/0 a.bias/0 a/1 even/1 y/1 z.weight/1",
    ]
    assert [channel[1] for channel in channels.groups[1].channels] == [(5,), (3,), (1,)]


def test_one_index_alone_stays() -> None:
    net = Net(18)
    y = net("Gather", start(net), net.const("i", 2, np.int64), axis=1, out="row")
    flat = net("Flatten", y)
    model = net.model(net.gemm("fc", flat, 3, 64))
    assert reasons(model)["a.weight/0"] == "channels 2: Gather 'n2' reads it by index"


def test_transpose_squeeze_and_flatten() -> None:
    net = Net(18)
    x = net("GlobalAveragePool", start(net), out="pool")
    x = net("Squeeze", x, net.const("axes", [2, 3], np.int64), out="s")
    x = net(
        "Unsqueeze",
        net("Transpose", x, perm=[1, 0], out="t"),
        net.const("one", [0], np.int64),
        out="u",
    )
    x = net("Flatten", x, axis=2, out="f")
    assert groups_of(net.model(net("MatMul", net.weight("z", 3, 4), x))) == [
        "a.weight: 4 at a.weight/0 a.bias/0 a/1 pool/1 s/1 t/0 u/1 f/0 z/1"
    ]


def test_flatten_to_gemm() -> None:
    net = Net(18)
    model = net.model(net.gemm("fc", net("Flatten", start(net, 4, 2), out="f"), 3, 16))
    (group,) = find_channels(model).groups
    assert str(group) == "a.weight: 4 at a.weight/0 a.bias/0 a/1 f/1*4 fc.weight/1*4"
    assert group.channels[1][3] == (4, 5, 6, 7)


def test_flatten_of_channels_last() -> None:
    net = Net(18)
    x = net("Transpose", start(net, 4, 2), perm=[0, 2, 3, 1])
    model = net.model(net.gemm("fc", net("Flatten", x, out="f"), 3, 16))
    assert find_channels(model).group("f").channels[1][-1] == (1, 5, 9, 13)


def test_unflatten_goes_with_the_channels_of_an_image() -> None:
    net = Net(18)
    x = net.gemm("fc", net.input("x", 1, 3), 24, 3)
    x = net("Reshape", x, net.const("s", [1, 6, 2, 2], np.int64), out="r")
    channels = find_channels(net.model(net.conv("z", x, 2, 6, 3, 3)))
    assert [str(group) for group in channels.groups] == [
        "fc.weight: 6 at fc.weight/0*4 fc.bias/0*4 fc/1*4 r/1 z.weight/1"
    ]


def test_reshape_prefers_the_largest_axis() -> None:
    """Channel shuffle: of 2 x 4 channels, the 4 go."""
    net = Net(18)
    x = net("Reshape", start(net, 8), net.const("s", [1, 2, 4, 8, 8], np.int64), out="r")
    x = net("Transpose", x, perm=[0, 2, 1, 3, 4], out="t")
    x = net("Reshape", x, net.const("u", [1, 8, 8, 8], np.int64), out="y")
    channels = find_channels(net.model(net.conv("z", x, 2, 8, 1, 1)))
    assert [str(group) for group in channels.groups] == [
        "a.weight: 4 at a.weight/0*2 a.bias/0*2 a/1*2 r/2 t/1 y/1*2 z.weight/1*2"
    ]
    assert channels.groups[0].channels[1] == ((1, 5),) * 3 + ((1,), (1,), (2, 3), (2, 3))
    lost = [fixed for fixed in channels.fixed if fixed.name == "r"]
    assert [(each.axis, each.reason) for each in lost if each.axis == 1] == []


def test_reshape_of_several_axes_to_several() -> None:
    """Group normalisation as torch writes it: [N, C, H, W] -> [N, groups, rest] and back."""
    net = Net(18)
    x = net("Reshape", start(net, 8), net.const("s", [1, 2, -1], np.int64), out="r")
    x = net("InstanceNormalization", x, net.weight("o", 2), net.weight("n", 2), out="i")
    x = net("Reshape", x, net.const("u", [1, 8, 8, 8], np.int64), out="y")
    assert ending(net, x, 8) == [
        "a.weight: 2 at a.weight/0*4 a.bias/0*4 a/1*4 r/1 o/0 n/0 i/1 y/1*4 z.weight/1*4"
    ]


def test_expand_and_tile() -> None:
    net = Net(18)
    x = net("Expand", start(net), net.const("s", [2, 4, 8, 8], np.int64), out="e")
    x = net("Tile", x, net.const("r", [1, 2, 1, 1], np.int64), out="t")
    (group,) = find_channels(net.model(net.conv("z", x, 2, 8, 1, 1))).groups
    assert str(group) == "a.weight: 4 at a.weight/0 a.bias/0 a/1 e/1 t/1*2 z.weight/1*2"
    assert group.channels[1][-1] == (1, 5)


def test_padded_channels() -> None:
    """A shortcut without weights: channels before and behind are zeroes, which may go too."""
    net = Net(18)
    x = start(net)
    y = net("Pad", x, net.const("p", [0, 1, 0, 0, 0, 1, 0, 0], np.int64), out="p4")
    y = net("Add", y, net.conv("b", x, 6, 4, 3, 3), out="y")
    channels = find_channels(net.model(net.conv("z", y, 2, 6, 1, 1)))
    assert [str(group) for group in channels.groups] == [
        "a.weight: 4 at a.weight/0 a.bias/0 a/1 p4/1 b.weight/0 b.weight/1 b.bias/0 b/1 y/1 "
        "z.weight/1",
        "b.weight[0]: 2 at b.weight/0 p4/1 b.bias/0 b/1 y/1 z.weight/1",
    ]


def test_other_pads_fix() -> None:
    net = Net(18)
    pads = net.const("p", [0, 1, 0, 0, 0, 1, 0, 0], np.int64)
    model = net.model(net.conv("z", net("Pad", start(net), pads, mode="edge"), 2, 6, 1, 1))
    assert reasons(model)["a.weight/0"] == "Pad 'n2' pads it"


@pytest.mark.parametrize(("mode", "indices"), [("DCR", (1, 4, 7, 10)), ("CRD", (4, 5, 6, 7))])
def test_depth_to_space(mode: str, indices: tuple[int, ...]) -> None:
    net = Net(18)
    x = net("DepthToSpace", start(net, 12), blocksize=2, mode=mode, out="d")
    (group,) = find_channels(net.model(net.conv("z", x, 2, 3, 1, 1))).groups
    assert str(group) == "a.weight: 3 at a.weight/0*4 a.bias/0*4 a/1*4 d/1 z.weight/1"
    assert group.channels[1][0] == indices


def test_space_to_depth_resize_and_pools() -> None:
    net = Net(18)
    x = net("MaxPool", start(net), kernel_shape=[2, 2], strides=[2, 2], out="m")
    scales = net.const("scales", [1, 1, 2, 2], np.float32)
    x = net("Resize", x, "", scales, mode="nearest", out="r")
    (group,) = find_channels(
        net.model(net.conv("z", net("SpaceToDepth", x, blocksize=2, out="s"), 2, 16, 1, 1))
    ).groups
    assert str(group) == "a.weight: 4 at a.weight/0 a.bias/0 a/1 m/1 r/1 s/1*4 z.weight/1*4"
    assert group.channels[1][-1] == (1, 5, 9, 13)


# Quantised


def test_vectors_of_scales_and_zero_points() -> None:
    net = Net(18)
    x = start(net)
    s, z = net.weight("s", 4), net.const("z0", np.zeros(4), np.int8)
    x = net(
        "DequantizeLinear", net("QuantizeLinear", x, s, z, axis=1, out="q"), s, z, axis=1, out="d"
    )
    assert ending(net, x, 4) == [
        "a.weight: 4 at a.weight/0 a.bias/0 a/1 s/0 z0/0 q/1 d/1 z.weight/1"
    ]


def test_weights_are_named_by_their_integers() -> None:
    channels = find_channels(models.MODELS["separable_qdq"]())
    assert [group.name for group in channels.groups] == [
        "stem.weight_quantized",
        "pw0.weight_quantized",
        "pw1.weight_quantized",
    ]
    for name in ("pw0.weight", "pw0.weight_quantized", "pw0.weight_DequantizeLinear_Output"):
        assert channels.group(name).name == "pw0.weight_quantized"
    assert channels.group("dw1.weight").name == "pw0.weight_quantized"


@pytest.mark.parametrize(
    "name", ["residual", "separable", "upsampled", "squeeze_excite", "tf_style"]
)
def test_groups_survive_quantisation(name: str) -> None:
    plain = find_channels(models.MODELS[name]()).groups
    exact = find_channels(models.MODELS[f"{name}_qdq"]()).groups
    assert [(f"{g.name}_quantized", g.width) for g in plain] == [(g.name, g.width) for g in exact]
    for one, other in zip(plain, exact, strict=True):
        assert [f"{name}_quantized" for name in one.consumers] == list(other.consumers)


def test_operators_on_integers() -> None:
    net = Net(18)
    x = net.input("x", 1, 3, 8, 8, kind=TensorProto.INT8)
    one = net.grid(0.1, 3)
    w = [net.bytes("w", 6, 3, 1, 1), net.weight("ws", 6), net.const("wz", np.zeros(6), np.int8)]
    bias = net.const("bias", np.arange(6), np.int32)
    y = net("QLinearConv", x, *one, *w, *net.grid(0.2, 0), bias, out="y")
    y = net("Flatten", net("MaxPool", y, kernel_shape=[8, 8]), out="f")
    v = [net.bytes("v", 6, 5), net.weight("vs", 5), net.const("vz", np.zeros(5), np.int8)]
    y = net("QLinearMatMul", y, *net.grid(0.2, 0), *v, *net.grid(0.3, 0), out="m")
    y = net("MatMulInteger", y, net.bytes("u", 5, 4), "", net.const("uz", np.zeros(4), np.int8))
    assert groups_of(net.model(y, kind=TensorProto.INT32)) == [
        "w: 6 at w/0 ws/0 wz/0 bias/0 y/1 maxpool_4/1 f/1 v/0",
        "v: 5 at v/1 vs/0 vz/0 m/1 u/0",
    ]


def test_operators_of_microsoft() -> None:
    """Their shapes must be given: inference does not know them."""
    net, own = Net(18), "com.microsoft"
    x = net.input("x", 1, 3, kind=TensorProto.INT8)
    w = [net.bytes("w", 6, 3), net.weight("ws", 6), net.const("wz", np.zeros(6), np.int8)]
    bias = net.const("b", np.arange(6), np.int32)
    y = net(
        "QGemm", x, *net.grid(0.1, 3), *w, bias, *net.grid(0.2, 0), out="y", domain=own, transB=1
    )
    y = net("QLinearSigmoid", y, *net.grid(0.2, 0), *net.grid(0.1, 0), out="s", domain=own)
    y = net(
        "QLinearAdd",
        y,
        *net.grid(0.1, 0),
        y,
        *net.grid(0.1, 0),
        *net.grid(0.2, 0),
        out="t",
        domain=own,
    )
    y = net(
        "QLinearConcat",
        *net.grid(0.1, 0),
        "s",
        *net.grid(0.1, 0),
        y,
        *net.grid(0.1, 0),
        out="c",
        axis=1,
        domain=own,
    )
    y = net("MatMulInteger", y, net.bytes("v", 12, 4))
    model = net.model(y, kind=TensorProto.INT32, shape=[1, 4])
    assert "whose shape is not known; make it QDQ first" in reasons(model)["w/0"]
    for name, width in (("y", 6), ("s", 6), ("t", 6), ("c", 12)):
        model.graph.value_info.append(
            helper.make_tensor_value_info(name, TensorProto.INT8, [1, width])
        )
    assert groups_of(model) == ["w: 6 at w/0 ws/0 wz/0 b/0 y/1 s/1 t/1 c/1*2 v/0*2"]


# What is fixed


@pytest.mark.parametrize(
    ("op", "attributes", "reason"),
    [
        ("Softmax", {"axis": 1}, "Softmax 'n2' normalises over it"),
        ("LpNormalization", {"axis": 1}, "LpNormalization 'n2' normalises over it"),
        ("LRN", {"size": 3}, "LRN 'n2' normalises over it"),
        ("ReduceMean", {"axes": [1]}, "ReduceMean 'n2' averages over it"),
        ("ReduceMax", {"axes": [-3]}, "ReduceMax 'n2' reduces over it"),
        ("Shape", {}, "Shape 'n2' reads its size: fold constants first"),
        ("ArgMax", {"axis": 1}, "ArgMax 'n2' reduces over it"),
        ("Det", {}, "Det 'n2' is an operator whose channels are not known"),
        ("DynamicQuantizeLinear", {}, "DynamicQuantizeLinear 'n4' takes its scale from all of it"),
    ],
)
def test_reasons(op: str, attributes: dict[str, object], reason: str) -> None:
    net = Net(13)
    outs = ["y", "scale", "zero"] if op.startswith("Dynamic") else ["y"]
    y, *_ = net.many(op, start(net), out=outs, **attributes)
    model = net.model(y, kind=TensorProto.UNDEFINED)
    assert groups_of(model) == []
    assert reasons(model)["a.weight/0"] == reason


@pytest.mark.parametrize(
    ("op", "operands", "what"),
    [
        ("Slice", ["n", "n", "axes"], "takes a part that is known at run time only"),
        ("Reshape", ["shape"], "has sizes that are known at run time only"),
        ("ReduceSum", ["n"], "reduces over axes that are known at run time only"),
        ("CumSum", ["axis"], "sums along it"),
        ("CumSum", ["run"], "sums along it"),
        ("Tile", ["repeats"], "repeats it"),
        ("Gather", ["n"], "reads it by indices that are known at run time only"),
        ("Gather", ["table"], "reads it by index"),
    ],
)
def test_reasons_of_operands(op: str, operands: list[str], what: str) -> None:
    net = Net(18)
    x = start(net)
    net.input("n", 1, kind=TensorProto.INT64)
    net.input("run", kind=TensorProto.INT64)
    net.input("shape", 4, kind=TensorProto.INT64)
    net.input("repeats", 4, kind=TensorProto.INT64)
    net.const("axes", [1], np.int64)
    net.const("axis", 1, np.int64)
    net.const("table", [[0, 1], [2, 3]], np.int64)
    kw = {"axis": 1} if op == "Gather" else {}
    y = net(op, x, *operands, out="y", **kw)
    shape = [1, None, 8, 8] if op in {"ReduceSum", "Slice"} else None
    model = net.model(y, shape=shape)
    assert groups_of(model) == []
    assert reasons(model)["a.weight/0"] == f"{op} 'n2' {what}"


def test_blocks_of_scales_fix_their_axis() -> None:
    net = Net(21)
    w, s = net.bytes("w", 4, 6), net.weight("s", 2, 6)
    x = net("MatMul", net.input("x", 2, 3), net.weight("v", 3, 4), out="h")
    w = net("DequantizeLinear", w, s, out="d", axis=0, block_size=2)
    model = net.model(net("MatMul", net("MatMul", x, w, out="m"), net.weight("u", 6, 2)))
    assert groups_of(model) == ["w: 6 at w/1 s/1 d/1 m/1 u/0"]
    assert reasons(model)["v/1"] == "DequantizeLinear 'n2' has blocks in it"


def test_old_broadcasts_are_not_read() -> None:
    net = Net(6)
    y = net("Add", start(net), net.weight("c", 4), broadcast=1, axis=1)
    assert "broadcasts as in operator sets before 7" in reasons(net.model(y))["a.weight/0"]


def test_layer_normalisation_fixes_its_axis_alone() -> None:
    net = Net(18)
    x = net("MatMul", net.input("x", 2, 5, 3), net.weight("w", 3, 6), out="m")
    x = net("LayerNormalization", x, net.weight("s", 6), net.weight("b", 6), axis=-1)
    x = net("MatMul", x, net.weight("v", 6, 8), out="n")
    model = net.model(net("MatMul", x, net.weight("u", 8, 4)))
    assert groups_of(model) == ["v: 8 at v/1 n/2 u/0"]
    assert reasons(model) == {
        "w/1": "LayerNormalization 'n2' normalises over it",
        "w/0": "the graph input 'x' has it",
        "v/0": "LayerNormalization 'n2' normalises over it",
        "u/1": "the graph output 'matmul_4' has it",
    }


def test_sums_may_shrink() -> None:
    net = Net(18)
    y = net("ReduceSum", start(net), net.const("axes", [1], np.int64), keepdims=0)
    (group,) = find_channels(net.model(y)).groups
    assert (str(group), group.consumers) == ("a.weight: 4 at a.weight/0 a.bias/0 a/1", ())


def test_bodies_fix_what_they_read() -> None:
    net = Net(18)
    x = start(net)
    value = helper.make_tensor_value_info("inner", TensorProto.FLOAT, None)
    body = helper.make_graph([helper.make_node("Relu", [x], ["inner"])], "body", [], [value])
    y = net("If", net.input("flag", 1, kind=TensorProto.BOOL), then_branch=body, else_branch=body)
    model = net.model(net.conv("z", y, 2, 4, 1, 1))
    assert groups_of(model) == []
    assert reasons(model)["a.weight/0"] == "If 'n2' has a body that reads or makes it"


def test_unknown_batch_is_no_obstacle() -> None:
    net = Net(18)
    x = net("Relu", start(net, 4, 2))
    x = net("Reshape", x, net.const("s", [-1, 16], np.int64), out="r")
    model = net.model(net.gemm("fc", x, 3, 16))
    del model.graph.value_info[:]
    for value in (*model.graph.input, *model.graph.output):
        value.type.tensor_type.shape.dim[0].dim_param = "batch"
    model = onnx.shape_inference.infer_shapes(model, data_prop=True)
    assert groups_of(model) == [
        "a.weight: 4 at a.weight/0 a.bias/0 a/1 relu_2/1 r/1*4 fc.weight/1*4"
    ]


# Shared weights


def test_weights_of_two_readers_count_as_two() -> None:
    """The first reader's group has the weight's name, the other one's that of a tensor."""
    channels = find_channels(models.shared_weights())
    assert [str(group) for group in channels.groups] == [
        "w: 4 at w/0 b/0 conv_1/1 relu_2/1 w/1",
        "conv_3: 4 at conv_3/1 w/0 b/0 relu_4/1 w/1",
    ]
    assert channels.group("w").tensors == ("conv_1", "relu_2")
    assert channels.groups[1].producers == ("w",)


def test_equal_biases_do_not_tie_layers() -> None:
    net = Net(18)
    x = start(net)
    x = net("Conv", x, net.weight("b.weight", 4, 4, 1, 1), "a.bias", out="b")
    assert ending(net, x, 4) == [
        "a.weight: 4 at a.weight/0 a.bias/0 a/1 b.weight/1",
        "b.weight: 4 at b.weight/0 a.bias/0 b/1 z.weight/1",
    ]


def test_shared_dequantised_weights() -> None:
    net = Net(18)
    x = start(net)
    w = net.dequantize(net.bytes("w", 4, 4, 1, 1), 0.1, 0, out="dq")
    for name in ("b", "c"):
        x = net("Conv", x, w, out=name)
    assert ending(net, x, 4) == [
        "a.weight: 4 at a.weight/0 a.bias/0 a/1 w/1 dq/1",
        "w: 4 at w/0 dq/0 b/1 w/1 dq/1",
        "c: 4 at c/1 w/0 dq/0 z.weight/1",
    ]


# Names


def two_halves() -> Channels:
    net = Net(18)
    net.many("Split", start(net, 8), out=["l", "r"], axis=1, num_outputs=2)
    y = net("Concat", net.conv("b", "l", 4, 4, 1, 1), "r", axis=1, out="y")
    return find_channels(net.model(net.conv("z", y, 2, 8, 1, 1)))


@pytest.mark.parametrize(
    ("name", "group"),
    [("l", "l"), ("r", "r"), ("b", "b.weight"), ("b.bias", "b.weight"), ("b.weight", "b.weight")],
)
def test_a_group_is_found_by_what_it_holds(name: str, group: str) -> None:
    assert two_halves().group(name).name == group


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("a.weight", "'a.weight' is in 2 channel groups: l, r"),
        ("b.wieght", "no channels of 'b.wieght'; nearest: b.weight, "),
        ("?", "no channels of '?'; groups: l, r, b.weight"),
        ("z.weight", "the channels of 'z.weight' can't be removed: the graph output "),
        ("x", "the channels of 'x' can't be removed: the graph input 'x' has it"),
    ],
)
def test_a_name_without_one_group(name: str, message: str) -> None:
    with pytest.raises(ValueError, match=re.escape(message)):
        two_halves().group(name)


def test_the_model_is_left_alone_and_the_answer_repeats() -> None:
    model = models.MODELS["residual_qdq"]()
    data = model.SerializeToString()
    assert find_channels(model) == find_channels(onnx.load_from_string(data))
    assert model.SerializeToString() == data


def test_groups_are_consistent() -> None:
    """The same shape of indices for each channel; every index belongs to one channel."""
    for build in models.MODELS.values():
        seen: set[tuple[str, int, int, str]] = set()
        for group in find_channels(build()).groups:
            own = [
                (*vars(place).values(), index)
                for channel in group.channels
                for place, indices in zip(group.places, channel, strict=True)
                for index in indices
            ]
            assert len(own) == len(set(own))
            assert {len(channel) for channel in group.channels} == {len(group.places)}
            assert [c[0] for c in group.channels] == sorted(c[0] for c in group.channels)
            tensors = {(*key, "") for key in own if key[0] in group.tensors}
            assert seen.isdisjoint(tensors)
            seen |= tensors


# Ten networks


@pytest.mark.parametrize("name", handmade.TEN)
def test_ten_networks(name: str, golden: Golden) -> None:
    golden(str(find_channels(handmade.TEN[name]())))


@pytest.mark.parametrize("name", handmade.TEN)
def test_ten_quantised_networks(name: str) -> None:
    """The same weights go together; a group is found by the names that it had before."""
    build = handmade.TEN[name]
    plain, exact = find_channels(build()), find_channels(models.quantized(build))
    assert len(plain.groups) == len(exact.groups)
    for group in plain.groups:
        other = exact.group(group.name)
        assert other.width == group.width
        for mine, theirs in (
            (group.producers, other.producers),
            (group.consumers, other.consumers),
        ):
            assert {*mine} == {name.removesuffix("_quantized") for name in theirs}


# Random networks


def weights_of(channels: Channels, model: ModelProto) -> set[frozenset[Coordinate]]:
    """Each channel as the coordinates of weights that it holds."""
    weights = {
        t.name for t in model.graph.initializer if t.name.endswith("weight") and len(t.dims) > 1
    }
    return {
        frozenset(
            (place.name, place.axis, index)
            for place, indices in zip(group.places, channel, strict=True)
            for index in indices
            if place.name in weights
        )
        for group in channels.groups
        for channel in group.channels
    }


@settings(max_examples=150, deadline=None, derandomize=True)
@given(st.integers(0, 1 << 30))
def test_channels_of_random_networks(seed: int) -> None:
    net = Labelled(seed)
    assert weights_of(find_channels(net.model), net.model) == net.groups()


@settings(max_examples=60, deadline=None, derandomize=True)
@given(st.integers(0, 1 << 30))
def test_removing_channels_equals_silencing_them(seed: int) -> None:
    model, dice = Labelled(seed).model, random.Random(seed)
    kept: dict[tuple[str, int], list[int]] = {}
    gone: dict[tuple[str, int], list[int]] = {}
    sizes = {t.name: t.dims for t in model.graph.initializer}
    sizes |= {
        v.name: [d.dim_value for d in v.type.tensor_type.shape.dim] for v in model.graph.value_info
    }
    for group in find_channels(model).groups:
        lost = dice.sample(group.channels, dice.randrange(group.width))
        for channel in lost:
            for place, indices in zip(group.places, channel, strict=True):
                gone.setdefault((place.name, place.axis), []).extend(indices)
    for (name, axis), indices in gone.items():
        kept[name, axis] = sorted({*range(sizes[name][axis])} - {*indices})
    one, other = outputs(removed(model, kept), seed), outputs(silenced(model, gone), seed)
    for a, b in zip(one, other, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-5 * np.abs(b).max())
