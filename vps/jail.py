"""What the process that inspects an uploaded kernel does to itself before it reads the first byte of it.

Run in that process alone, by vps/inspection.py, without Django. It needs no root and no help of the system: limits
(`vps.xen.inspect.__main__.confine`, and no further files and processes here), another user where it is root, no new
privileges, and a list of the system calls that may still be made (seccomp, Linux 3.5). None of these opens a file,
makes a socket, starts a process or looks at another one: what is read and written are descriptors it was given.

Where the machine is one whose call numbers are not written here, or its kernel has no seccomp, the process goes into
user, network, IPC and mount namespaces of its own, where it has no network at all. Where that is forbidden as well it
ends: no kernel is looked at without a wall. docs/decisions has why.
"""

from __future__ import annotations

import ctypes
import errno
import os
import platform
import resource
import struct
from typing import NamedTuple

NOBODY = 65534
FILES = 16
"""Descriptors that may be open: the three of every process, two files, and what Python holds."""

PR_SET_DUMPABLE, PR_SET_SECCOMP, PR_SET_NO_NEW_PRIVS = 4, 22, 38
SECCOMP_MODE_FILTER = 2
CLONE_NEWNS, CLONE_NEWIPC, CLONE_NEWUSER, CLONE_NEWNET = 0x20000, 0x8000000, 0x10000000, 0x40000000

ALLOW, REFUSE, KILL = 0x7FFF0000, 0x00050000 | errno.EPERM, 0x80000000


class NoWall(Exception):
    """Neither of the two walls can be had here."""


F_DUPFD_CLOEXEC = 1030


class Machine(NamedTuple):
    """AUDIT_ARCH (linux/audit.h), the number of fcntl, and those of the calls that stay allowed."""

    arch: int
    fcntl: int
    calls: dict[str, int]


# What Python and the decompressors need to compute: memory, the two files, the clock, their own signals, the end.
MACHINES = {
    "x86_64": Machine(
        0xC000003E,
        72,
        {
            "read": 0, "write": 1, "close": 3, "fstat": 5, "lseek": 8, "mmap": 9, "mprotect": 10, "munmap": 11,
            "brk": 12, "rt_sigaction": 13, "rt_sigprocmask": 14, "rt_sigreturn": 15, "pread64": 17, "mremap": 25,
            "madvise": 28, "getpid": 39, "exit": 60, "ftruncate": 77, "sigaltstack": 131, "gettid": 186, "futex": 202,
            "clock_gettime": 228, "exit_group": 231, "newfstatat": 262, "getrandom": 318, "rseq": 334,
        },
    ),
    "aarch64": Machine(
        0xC00000B7,
        25,
        {
            "ftruncate": 46, "close": 57, "lseek": 62, "read": 63, "write": 64, "pread64": 67, "newfstatat": 79,
            "fstat": 80, "exit": 93, "exit_group": 94, "futex": 98, "clock_gettime": 113, "sigaltstack": 132,
            "rt_sigaction": 134, "rt_sigprocmask": 135, "rt_sigreturn": 139, "getpid": 172, "gettid": 178, "brk": 214,
            "munmap": 215, "mremap": 216, "mmap": 222, "mprotect": 226, "madvise": 233, "getrandom": 278, "rseq": 293,
        },
    ),
}  # fmt: skip


def enter() -> str:
    """Behind this there is no way back: gives the wall that stands, "seccomp" or "namespaces". Raises NoWall."""
    libc = ctypes.CDLL(None, use_errno=True)
    if os.geteuid() == 0:
        _become_nobody(libc)
    libc.prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
    resource.setrlimit(resource.RLIMIT_NOFILE, (FILES, FILES))
    machine = MACHINES.get(platform.machine())
    if machine is not None and _filter(libc, machine):
        return "seccomp"
    if libc.unshare(CLONE_NEWUSER | CLONE_NEWNET | CLONE_NEWIPC | CLONE_NEWNS) == 0:
        resource.setrlimit(resource.RLIMIT_NPROC, (0, 0))
        return "namespaces"
    raise NoWall(
        f"inspection has no wall here: {platform.machine()} without seccomp, and namespaces of its own are forbidden "
        f"({os.strerror(ctypes.get_errno())}); allow one of them"
    )


def _become_nobody(libc: ctypes.CDLL) -> None:
    os.setgroups([])
    os.setgid(NOBODY)
    os.setuid(NOBODY)
    libc.prctl(PR_SET_DUMPABLE, 0, 0, 0, 0)


class _Program(ctypes.Structure):
    """struct sock_fprog."""

    _fields_ = [("length", ctypes.c_ushort), ("instructions", ctypes.c_char_p)]


def program(machine: Machine) -> bytes:
    """The filter in classic BPF (linux/filter.h): another architecture is killed, an unknown call fails with EPERM."""
    load, jump_if_equal, give = 0x20, 0x15, 0x06
    calls = sorted(machine.calls.values())

    def instruction(code: int, value: int, then: int = 0, otherwise: int = 0) -> bytes:
        return struct.pack("=HBBI", code, then, otherwise, value)

    lines = [
        instruction(load, 4),  # seccomp_data.arch
        instruction(jump_if_equal, machine.arch, 1, 0),
        instruction(give, KILL),
        instruction(load, 0),  # seccomp_data.nr
    ]
    end = len(calls) + 3  # what follows the list before the last line
    lines += [instruction(jump_if_equal, call, end - at) for at, call in enumerate(calls)]
    lines += [
        # mmap.mmap doubles its descriptor; nothing else of fcntl is needed. The second argument's lower half.
        instruction(jump_if_equal, machine.fcntl, 0, 2),
        instruction(load, 16 + 8),
        instruction(jump_if_equal, F_DUPFD_CLOEXEC, 1, 0),
        instruction(give, REFUSE),
        instruction(give, ALLOW),
    ]
    return b"".join(lines)


def _filter(libc: ctypes.CDLL, machine: Machine) -> bool:
    code = program(machine)
    built = _Program(len(code) // 8, code)
    return int(libc.prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, ctypes.byref(built), 0, 0)) == 0
