"""SP within a block: its lowest, its change, and what is left unknown."""

import struct

from mcugraph.frames import Descent, descent, stack_changes
from mcugraph.thumb import decode


def changes(*halves: int, literal: int = 0) -> list[int | None]:
    data = struct.pack(f"<{len(halves)}H", *halves)
    return list(stack_changes(decode(data), data, 0x100, lambda address: literal))


def test_known_changes_give_the_lowest_and_the_sum() -> None:
    assert descent([-16, 0, -8, 24, 4]) == Descent(-24, 4, -28, False)


def test_an_unknown_change_leaves_what_is_before_and_after_it() -> None:
    assert descent([-16, None, -8, 4]) == Descent(-16, 0, -4, True)


def test_a_frame_whose_size_is_loaded_is_known() -> None:
    # push {r4, lr}; ldr r4, [pc]; add sp, r4; add sp, #4
    found = changes(0xB510, 0x4C00, 0x44A5, 0xB001, literal=2**32 - 1200)
    assert found == [-8, 0, -1200, 4]


def test_a_frame_whose_size_is_moved_shifted_and_negated_is_known() -> None:
    # movs r3, #150; lsls r3, r3, #3; rsbs r3, r3, #0; add sp, r3
    assert changes(0x2396, 0x00DB, 0x425B, 0x449D) == [0, 0, 0, -1200]


def test_a_register_that_is_written_again_is_unknown() -> None:
    # movs r3, #150; adds r3, r3, r0; add sp, r3
    assert changes(0x2396, 0x181B, 0x449D) == [0, 0, None]


def test_a_change_under_a_condition_is_unknown() -> None:
    # itt ne; nop; pop {r4, pc}; pop {r4, pc}
    assert changes(0xBF1C, 0xBF00, 0xBD10, 0xBD10) == [0, 0, None, 8]
