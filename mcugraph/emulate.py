"""Run firmware on an emulated Cortex-M and count what it costs, exactly."""

import importlib
import re
import struct
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from mcugraph import build, elf
from mcugraph.blocks import Block, Blocks, Status
from mcugraph.counts import Counts, Part, Run, parts
from mcugraph.frames import Descent, descent, ends_open, stack_changes
from mcugraph.targets import Target
from mcugraph.thumb import Instruction, decode

_PAGE = 4096
_SYSTEM_SPACE = 0xE000E000  # the core's own registers; start-up switches the FPU on there
_EXIT = 0x1FFFFF00  # where a called function returns to; no part has memory there
_BREAKPOINT = 7  # unicorn's number of the exception that BKPT raises
_SEMIHOSTING = b"\xab\xbe"
_LIMIT = 10**11
_EXCEPTIONS = {
    1: "ran an undefined instruction",
    3: "jumped to where no code is",
    4: "made an access that is not aligned",
}
_STOPPED = {
    Status.INSTRUCTION_LIMIT: "ran past the limit of {limit} instructions",
    Status.STACK_OVERFLOW: "let the stack grow into other data (below {stack_limit:#x})",
    Status.TABLE_FULL: "has more blocks of code than can be counted",
}


def _unicorn() -> Any:
    try:
        return importlib.import_module("unicorn")
    except ImportError as error:
        raise ValueError(
            "unicorn is not installed; install it with: pip install 'mcugraph[emulate]'"
        ) from error


def _core(target: Target) -> Any:
    unicorn = _unicorn()
    if target.emulator is None:
        raise ValueError(f"target {target.name} has no emulator")
    model = f"UC_CPU_ARM_{target.emulator.upper().replace('-', '_')}"
    # not UC_MODE_MCLASS: unicorn would take a Cortex-M33 in place of the model
    return unicorn.Uc(unicorn.UC_ARCH_ARM, unicorn.UC_MODE_THUMB, getattr(unicorn.arm_const, model))


class Machine:
    """An emulated core with a program in its memories, which keep their contents between calls."""

    def __init__(self, program: Path, target: Target) -> None:
        self._uc = _core(target)
        self._target = target
        self.elf = elf.read(program)
        self.output = ""
        self._fault: str | None = None
        self._exit_code = -1
        self._known: dict[tuple[int, int], tuple[list[Instruction], Descent]] = {}
        self._divided: dict[tuple[int, int, int], list[Part]] = {}
        self._labels: list[tuple[int, int]] = []
        self._map()
        self._blocks = Blocks(self._uc, self._describe)
        self._listen()
        self.reset()

    def reset(self) -> None:
        """Put the program and its initial data into the memories; clear the rest of its data."""
        for segment in self.elf.segments:
            if segment.load != segment.address and segment.data:
                self._uc.mem_write(segment.load, segment.data)
            self._uc.mem_write(segment.address, segment.data.ljust(segment.size, b"\0"))

    def read(self, place: int | str, size: int) -> bytes:
        """Return bytes at an address or a symbol."""
        return bytes(self._uc.mem_read(self.address(place), size))

    def write(self, place: int | str, data: bytes) -> None:
        """Put bytes at an address or a symbol."""
        self._uc.mem_write(self.address(place), data)

    def address(self, place: int | str) -> int:
        """Return the address of a symbol; an address stands for itself."""
        if isinstance(place, int):
            return place
        if place not in self.elf.addresses:
            raise ValueError(f"the firmware has no symbol '{place}'")
        return self.elf.addresses[place]

    @contextmanager
    def watching(self, steps: str, watch: Callable[[int], None]) -> Iterator[None]:
        """Within this context, call `watch` with the number of each step before it runs."""
        unicorn = _unicorn()
        hooks = [
            self._uc.hook_add(
                unicorn.UC_HOOK_CODE,
                lambda *_, step=step: watch(step),
                begin=address,
                end=address,
            )
            for address, step in self._steps(steps)
        ]
        self._uc.ctl_flush_tb()
        try:
            yield
        finally:
            for hook in hooks:
                self._uc.hook_del(hook)
            self._uc.ctl_flush_tb()

    def call(self, function: str, *arguments: int, steps: str = "", limit: int = _LIMIT) -> Run:
        """Call a function with up to four integers and count until it returns.

        Global labels `steps` followed by a number begin the step of that number. Raises
        RuntimeError where the code faults, overflows the stack or runs past the limit.
        """
        if len(arguments) > 4:
            raise ValueError(f"{function} gets {len(arguments)} arguments; at most 4 are possible")
        arm = _unicorn().arm_const
        first = arm.UC_ARM_REG_R0
        for register, value in enumerate(arguments, first):
            self._uc.reg_write(register, value & 0xFFFFFFFF)
        self._uc.reg_write(arm.UC_ARM_REG_LR, _EXIT | 1)
        self._run(self.address(function), self.address("__stack_top"), steps, limit)
        if self._uc.reg_read(arm.UC_ARM_REG_PC) != _EXIT:
            self._fail(f"left {function} by semihosting")
        self._blocks.end(_EXIT)
        return self._result(self._uc.reg_read(first))

    def run(self, limit: int = _LIMIT) -> Run:
        """Run from reset until the program exits by semihosting; its text is in output."""
        flash = self._target.memory("flash")
        assert flash is not None
        self.output = ""
        stack, start = struct.unpack("<II", self.read(flash.origin, 8))
        self._run(start & ~1, stack, "", limit)
        return self._result(self._exit_code)

    def _map(self) -> None:
        unicorn = _unicorn()
        for memory in self._target.memories:
            begin = memory.origin // _PAGE * _PAGE
            end = -(-(memory.origin + build.room(memory)) // _PAGE) * _PAGE
            access = unicorn.UC_PROT_READ | unicorn.UC_PROT_EXEC
            if memory.name != "flash":
                access |= unicorn.UC_PROT_WRITE
            self._uc.mem_map(begin, end - begin, access)
        access = unicorn.UC_PROT_READ | unicorn.UC_PROT_WRITE
        self._uc.mem_map(_SYSTEM_SPACE, _PAGE, access)

    def _listen(self) -> None:
        unicorn = _unicorn()
        self._uc.hook_add(unicorn.UC_HOOK_INTR, self._on_exception)
        self._uc.hook_add(unicorn.UC_HOOK_MEM_INVALID, self._on_invalid)

    def _run(self, start: int, stack: int, steps: str, limit: int) -> None:
        unicorn = _unicorn()
        labels = self._steps(steps)
        if labels != self._labels:
            self._labels = labels
            self._divided.clear()
        self._fault = None
        stack_limit = self.elf.addresses.get("__stack_limit", 0)
        self._uc.reg_write(unicorn.arm_const.UC_ARM_REG_SP, stack)
        self._blocks.begin(stack, stack_limit, limit)
        error = ""
        try:
            self._uc.emu_start(start | 1, _EXIT)
        except unicorn.UcError as caught:
            error = f"stopped: {caught}"
        status = self._blocks.status
        if status is not Status.RUNNING:
            self._fail(_STOPPED[status].format(limit=limit, stack_limit=stack_limit))
        if self._fault or error:
            self._fail(self._fault or error)

    def _fail(self, what: str) -> None:
        pc = self._uc.reg_read(_unicorn().arm_const.UC_ARM_REG_PC) & ~1
        raise RuntimeError(f"the firmware {what}, at {pc:#x} in {self.elf.function_at(pc)}")

    def _steps(self, prefix: str) -> list[tuple[int, int]]:
        """Return the (address, number) of each step's label, by address."""
        if not prefix:
            return []
        pattern = re.compile(re.escape(prefix) + r"(\d+)(?:_\d+)?")
        found = ((pattern.fullmatch(each.name), each) for each in self.elf.symbols)
        return sorted((each.address & ~1, int(match[1])) for match, each in found if match)

    def _look(self, address: int, size: int) -> tuple[list[Instruction], Descent]:
        """Return what a block consists of and what it does to SP."""
        key = (address, size)
        if key not in self._known:
            data = self.read(address, size)
            code = decode(data)
            changes = list(stack_changes(code, data, address, self._word))
            self._known[key] = (code, descent(changes))
        return self._known[key]

    def _describe(self, block: Block) -> None:
        """Fill in what the hook needs to know of a block that it meets for the first time."""
        code, found = self._look(block.address, block.size)
        begun = [step for at, step in self._labels if 0 <= at - block.address < block.size]
        block.bucket_after = begun[-1] if begun else block.bucket
        block.instructions, block.is_open = len(code), ends_open(code)
        block.deepest, block.change = found.lowest, found.change
        block.tail, block.is_unknown = found.tail, found.is_unknown

    def _word(self, address: int) -> int:
        return int.from_bytes(self.read(address, 4), "little")

    def _on_exception(self, _: Any, number: int, __: Any) -> None:
        arm = _unicorn().arm_const
        pc = self._uc.reg_read(arm.UC_ARM_REG_PC)
        if number == _BREAKPOINT and self.read(pc, 2) == _SEMIHOSTING:
            request, argument = map(self._uc.reg_read, (arm.UC_ARM_REG_R0, arm.UC_ARM_REG_R1))
            self._semihost(request, argument)
            self._uc.reg_write(arm.UC_ARM_REG_PC, (pc + 2) | 1)
            return
        self._fault = _EXCEPTIONS.get(number, f"raised exception {number}")
        self._uc.emu_stop()

    def _semihost(self, request: int, argument: int) -> None:
        if request == 0x03:
            self.output += self.read(argument, 1).decode("latin1")
        elif request == 0x04:
            self.output += self._text(argument)
        elif request == 0x18:
            self._leave(0 if argument == 0x20026 else 1)
        elif request == 0x20:
            self._leave(struct.unpack("<II", self.read(argument, 8))[1])
        else:
            self._fault = f"made the semihosting request {request:#x}, which is not served"
            self._uc.emu_stop()

    def _leave(self, code: int) -> None:
        self._exit_code = code
        self._uc.emu_stop()

    def _text(self, address: int) -> str:
        data = bytearray()
        while (byte := self.read(address + len(data), 1)) != b"\0":
            data += byte
        return data.decode("latin1")

    def _on_invalid(self, _: Any, access: int, address: int, size: int, *__: Any) -> bool:
        unicorn = _unicorn()
        reads = (unicorn.UC_MEM_READ_UNMAPPED, unicorn.UC_MEM_READ_PROT)
        writes = (unicorn.UC_MEM_WRITE_UNMAPPED, unicorn.UC_MEM_WRITE_PROT)
        verb = "read" if access in reads else "wrote" if access in writes else "jumped to"
        self._fault = f"{verb} {size} bytes at {address:#x}, which is not possible there"
        return False

    def _result(self, result: int) -> Run:
        model = self._target.cycles
        none = Counts(cycles=0 if model else None)
        steps = dict.fromkeys((number for _, number in self._labels), none)
        functions: dict[str, Counts] = {}
        total = none
        for block in self._blocks.used():
            name = self.elf.function_at(block.address)
            for part in self._parts(block):
                counts = part.times(block.count, block.taken)
                steps[part.step] = steps.get(part.step, none) + counts
                functions[name] = functions.get(name, none) + counts
                total += counts
        return Run(result, total, self._blocks.depth, dict(sorted(steps.items())), functions)

    def _parts(self, block: Block) -> list[Part]:
        key = (block.address, block.size, block.bucket)
        if key not in self._divided:
            code, _ = self._look(block.address, block.size)
            cuts = _cuts(code, block.address, block.bucket, dict(self._labels))
            self._divided[key] = parts(code, cuts, self._target.cycles)
        return self._divided[key]


def _cuts(
    code: list[Instruction], address: int, step: int, labels: Mapping[int, int]
) -> list[tuple[int, int]]:
    """Return (index of an instruction, step that begins there) of a block that begins in step."""
    cuts = {0: step}
    for index, instruction in enumerate(code):
        if address in labels:
            cuts[index] = labels[address]
        address += instruction.size
    return list(cuts.items())
