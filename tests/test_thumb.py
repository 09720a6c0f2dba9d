"""Single instructions, by their encodings in the architecture reference manual."""

import struct

import pytest

from mcugraph.thumb import FLOAT_REGISTER, PC, SP, Instruction, Kind, decode

NARROW = {
    0x0000: Instruction(Kind.ALU, result=0),  # movs r0, r0
    0x2A05: Instruction(Kind.ALU),  # cmp r2, #5
    0x4348: Instruction(Kind.MULTIPLY, result=0),  # muls r0, r1
    0x4281: Instruction(Kind.ALU),  # cmp r1, r0
    0x4770: Instruction(Kind.BRANCH_REGISTER),  # bx lr
    0x4687: Instruction(Kind.MOVE_PC),  # mov pc, r0
    0x44A5: Instruction(Kind.ALU, result=SP, stack=None),  # add sp, r4
    0x46BD: Instruction(Kind.ALU, result=SP, stack=None),  # mov sp, r7
    0x4B02: Instruction(Kind.LOAD, result=3, address=(PC,)),  # ldr r3, [pc, #8]
    0x5E88: Instruction(Kind.LOAD, 2, 0, (1, 2)),  # ldrsh r0, [r1, r2]
    0x5288: Instruction(Kind.STORE, 2, 0, (1, 2)),  # strh r0, [r1, r2]
    0x7808: Instruction(Kind.LOAD, result=0, address=(1,)),  # ldrb r0, [r1]
    0x9001: Instruction(Kind.STORE, result=0, address=(SP,)),  # str r0, [sp, #4]
    0xB570: Instruction(Kind.STORE_MANY, 4, stack=-16),  # push {r4-r6, lr}
    0xBD70: Instruction(Kind.POP_PC, 4, stack=16),  # pop {r4-r6, pc}
    0xBC30: Instruction(Kind.LOAD_MANY, 2, stack=8),  # pop {r4, r5}
    0xB082: Instruction(Kind.ALU, result=SP, stack=-8),  # sub sp, #8
    0xB07F: Instruction(Kind.ALU, result=SP, stack=508),  # add sp, #508
    0xC803: Instruction(Kind.LOAD_MANY, 2),  # ldmia r0!, {r0, r1}
    0xB108: Instruction(Kind.COMPARE_BRANCH),  # cbz r0
    0xBF08: Instruction(Kind.IT, 1),  # it eq
    0xBF01: Instruction(Kind.IT, 4),  # itttt eq
    0xBF00: Instruction(Kind.NOP),  # nop
    0xBEAB: Instruction(Kind.TRAP),  # bkpt 0xab
    0xD0FE: Instruction(Kind.BRANCH_IF),  # beq
    0xDF00: Instruction(Kind.TRAP),  # svc 0
    0xE7FE: Instruction(Kind.BRANCH),  # b
}
WIDE = {
    (0xF000, 0xF800): Instruction(Kind.CALL, size=4),  # bl
    (0xF000, 0xB800): Instruction(Kind.BRANCH, size=4),  # b.w
    (0xF000, 0x8000): Instruction(Kind.BRANCH_IF, size=4),  # beq.w
    (0xF3BF, 0x8F4F): Instruction(Kind.BARRIER, size=4),  # dsb
    (0xF3EF, 0x8010): Instruction(Kind.SYSTEM, size=4),  # mrs r0, primask
    (0xE92D, 0x41F0): Instruction(Kind.STORE_MANY, 6, stack=-24, size=4),  # push {r4-r8, lr}
    (0xE8BD, 0x81F0): Instruction(Kind.POP_PC, 6, stack=24, size=4),  # pop {r4-r8, pc}
    (0xF84D, 0x8D04): Instruction(Kind.STORE, 1, 8, (SP,), -4, 4),  # push {r8}
    (0xF85D, 0x8B04): Instruction(Kind.LOAD, 1, 8, (SP,), 4, 4),  # pop {r8}
    (0xF88D, 0x0900): Instruction(Kind.STORE, 1, 0, (SP,), 0, 4),  # strb r0, [sp, #2304]
    (0xF5AD, 0x6D96): Instruction(Kind.ALU, result=SP, stack=-1200, size=4),  # sub sp, #1200
    (0xF2AD, 0x4DB4): Instruction(Kind.ALU, result=SP, stack=-1204, size=4),  # subw sp, #1204
    (0xE9CD, 0x0102): Instruction(Kind.STORE_MANY, 2, size=4),  # strd r0, r1, [sp, #8]
    (0xE96D, 0x0102): Instruction(Kind.STORE_MANY, 2, stack=-8, size=4),  # strd [sp, #-8]!
    (0xE8DF, 0xF000): Instruction(Kind.TABLE_BRANCH, size=4),  # tbb [pc, r0]
    (0xF851, 0x0022): Instruction(Kind.LOAD, 2, 0, (1, 2), size=4),  # ldr r0, [r1, r2, lsl #2]
    (0xFB01, 0xF002): Instruction(Kind.MULTIPLY, result=0, size=4),  # mul r0, r1, r2
    (0xFB01, 0x3002): Instruction(Kind.MULTIPLY_ADD, result=0, size=4),  # mla
    (0xFB82, 0x0103): Instruction(Kind.MULTIPLY_LONG, size=4),  # smull
    (0xFB91, 0xF0F2): Instruction(Kind.DIVIDE, size=4),  # sdiv
    (0xEB0D, 0x0D01): Instruction(Kind.ALU, result=SP, stack=None, size=4),  # add sp, r1
    (0xED2D, 0x8B02): Instruction(Kind.FLOAT_STORE_MANY, 2, stack=-8, size=4),  # vpush {d8}
    (0xECBD, 0x8B02): Instruction(Kind.FLOAT_LOAD_MANY, 2, stack=8, size=4),  # vpop {d8}
    (0xED9D, 0x0A01): Instruction(Kind.FLOAT_LOAD, 1, FLOAT_REGISTER, (SP,), size=4),  # vldr
    (0xEEA0, 0x0A81): Instruction(Kind.FLOAT_MULTIPLY_ADD, 3, size=4),  # vfma.f32
    (0xEE80, 0x0A81): Instruction(Kind.FLOAT_DIVIDE, 14, size=4),  # vdiv.f32
    (0xEE30, 0x0A81): Instruction(Kind.FLOAT, size=4),  # vadd.f32
}


@pytest.mark.parametrize("code", NARROW, ids=hex)
def test_a_16_bit_instruction_is_known(code: int) -> None:
    assert decode(struct.pack("<H", code)) == [NARROW[code]]


@pytest.mark.parametrize("code", WIDE, ids=lambda code: f"{code[0]:x} {code[1]:x}")
def test_a_32_bit_instruction_is_known(code: tuple[int, int]) -> None:
    assert decode(struct.pack("<HH", *code)) == [WIDE[code]]


def test_instructions_of_both_sizes_follow_one_another() -> None:
    code = struct.pack("<5H", 0xB570, 0xF000, 0xF800, 0xBF00, 0x4770)
    kinds = [each.kind for each in decode(code)]
    assert kinds == [Kind.STORE_MANY, Kind.CALL, Kind.NOP, Kind.BRANCH_REGISTER]
