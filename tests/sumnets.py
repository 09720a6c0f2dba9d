"""Random networks of sums, differences and what carries them."""

from __future__ import annotations

import random

from models import Net
from onnx import ModelProto


def start(opset: int = 17, seed: int = 0) -> tuple[Net, str]:
    """A network to go on with, and its first tensor: [1, 4, 5, 5]."""
    net = Net(opset, seed)
    return net, net("Tanh", net.conv("stem", net.input("x", 1, 2, 5, 5), 4, 2, 3, 3), out="stemmed")


class Sums:
    """A random network of sums, differences and what carries them, over one shape."""

    def __init__(self, seed: int) -> None:
        self.dice = random.Random(seed)
        self.net, x = start(self.dice.choice([13, 18]))
        self.pool = [x]
        for number in range(self.dice.randint(3, 9)):
            self.pool.append(self.grown(number))

    def grown(self, number: int) -> str:
        x = self.dice.choice(self.pool[-3:])
        kind = self.dice.choice(["conv", "conv", "sum", "sum", "unary"])
        if kind == "conv":
            return self.net.conv(f"conv{number}", x, 4, 4, *self.dice.choice([(1, 1), (3, 3)]))
        if kind == "unary":
            return self.net(self.dice.choice(["Relu", "Tanh"]), x)
        op = self.dice.choice(["Add", "Add", "Sub", "Sum"])
        others = [self.dice.choice(self.pool) for _ in range(self.dice.choice([1, 2]))]
        return self.net(op, x, *(others if op == "Sum" else others[:1]))

    def model(self) -> ModelProto:
        read = {name for node in self.net.nodes for name in node.input}
        ends = [name for name in self.pool if name not in read]
        return self.net.model(*ends)
