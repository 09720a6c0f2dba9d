"""Limits: how they are written, where they come from, and when they are exceeded."""

from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mcugraph.budget import Budget, kilobytes, parse_bytes
from mcugraph.targets import load


@pytest.mark.parametrize(
    ("text", "size"),
    [
        ("512", 512),
        ("512B", 512),
        ("16KB", 16384),
        ("16k", 16384),
        (" 16 kb ", 16384),
        ("1.5MB", 1572864),
        ("0.1KB", 102),
        ("0", 0),
        ("1M", 1048576),
        ("9" * 400, int("9" * 400)),
    ],
)
def test_sizes(text: str, size: int) -> None:
    assert parse_bytes(text) == size


@pytest.mark.parametrize("text", ["", "KB", "-1", "1 GB", "1.KB", ".5KB", "1e3", "0x10", "1,5KB"])
def test_what_is_no_size_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="is no size; write bytes, or a number with KB or MB"):
        parse_bytes(text)


def test_a_target_brings_its_memories() -> None:
    assert Budget.of(load("microbit")) == Budget(ram=16 << 10, flash=256 << 10, stack=None)
    assert Budget.of(load("cortex-m0")) == Budget()
    assert Budget.of(load("host")) == Budget()


def test_a_text_overrules_the_target_only_where_it_says_so() -> None:
    target = load("microbit")
    assert Budget.of(target, "ram=8KB") == Budget(8 << 10, 256 << 10, None)
    found = Budget.of(target, "stack=512, flash=1MB ,ram=9")
    assert found == Budget(ram=9, flash=1 << 20, stack=512)
    assert Budget.of(replace(target, memories=()), "ram=1") == Budget(ram=1)


@pytest.mark.parametrize("text", ["", "ram", "ram=1,", "RAM=1", "heap=1", "=1", "ram:1"])
def test_a_wrong_entry_is_named_with_what_is_allowed(text: str) -> None:
    with pytest.raises(ValueError, match="allowed: ram=SIZE, flash=SIZE, stack=SIZE"):
        Budget.of(load("host"), text)


def test_a_limit_may_be_reached_but_not_exceeded() -> None:
    budget = Budget(ram=100, stack=0)
    assert budget.exceeded(ram=100, flash=10**9, stack=0) == []
    assert budget.exceeded(ram=101, flash=10**9, stack=1) == ["ram", "stack"]


@given(size=st.integers(0, 1 << 40))
@settings(deadline=None, max_examples=100, derandomize=True)
def test_kilobytes_never_promise_too_little(size: int) -> None:
    shown = round(float(kilobytes(size)) * 10)
    assert (shown - 1) * 1024 < size * 10 <= shown * 1024
