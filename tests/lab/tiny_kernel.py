"""A kernel of forty bytes of code: it asks Xen to power it off, the first thing that it does."""

from __future__ import annotations

from tests.elffile import ElfFile
from tests.kernels import xen_notes

_BASE = 0xFFFFFFFF80000000
_START = _BASE + 0x100000
# xen/include/public: __HYPERVISOR_sched_op 29, SCHEDOP_shutdown 2, SHUTDOWN_poweroff 0. A 64-bit PV kernel calls Xen by
# `syscall`, the number in rax, arguments in rdi and rsi.
_CODE = (
    b"\xb8\x1d\x00\x00\x00"  # mov $29, %eax
    b"\xbf\x02\x00\x00\x00"  # mov $2, %edi
    b"\x48\x8d\x35\x04\x00\x00\x00"  # lea reason(%rip), %rsi
    b"\x0f\x05"  # syscall
    b"\xeb\xfe"  # jmp .
    b"\x00\x00\x00\x00"  # reason
)


def poweroff() -> bytes:
    """The kernel, a 64-bit PV ELF."""
    elf = ElfFile(bits=64, entry=_START)
    text = elf.section(".text", _CODE.ljust(8192, b"\0"), addr=_START, flags=6)
    notes = elf.section(
        ".notes",
        xen_notes(
            64,
            {
                "GUEST_OS": "berth-test",
                "GUEST_VERSION": "1",
                "XEN_VERSION": "xen-3.0",
                "VIRT_BASE": _BASE,
                "ENTRY": _START,
                "HYPERCALL_PAGE": _START + 4096,
                "LOADER": "generic",
                "PADDR_OFFSET": 0,
            },
        ),
        kind=7,
    )
    elf.load([text], paddr=_START - _BASE)
    elf.note_segment(notes)
    return elf.build()
