"""What the kernel does for a locked-in process: a table of system calls, and the filter made from it.

Everything that is not listed is refused with EPERM: no execve, no new process, no socket, no io_uring, ptrace, memfd,
keyring, mount, SysV memory, and nothing that changes owner, mode or times of a file, which Landlock does not cover.
Numbers that no table knew when this was written answer ENOSYS, as on an older kernel; so does clone3, whose flags a
filter cannot read (glibc then takes clone). Another architecture's numbering (i386, x32) ends the process.

The filter is classic BPF over `struct seccomp_data` {nr: u32, arch: u32, instruction_pointer: u64, args: u64[6]}
(Linux, Documentation/userspace-api/seccomp_filter.rst).
"""

from __future__ import annotations

import errno
import struct
from collections.abc import Iterable, Mapping

ALLOWED: Mapping[str, tuple[int | None, int | None]] = {
    # memory
    "brk": (12, 214), "mmap": (9, 222), "munmap": (11, 215), "mprotect": (10, 226), "mremap": (25, 216),
    "madvise": (28, 233), "msync": (26, 227), "mincore": (27, 232), "mlock": (149, 228), "mlock2": (325, 284),
    "munlock": (150, 229), "mlockall": (151, 230), "munlockall": (152, 231), "mbind": (237, 235),
    "get_mempolicy": (239, 236), "set_mempolicy": (238, 237), "membarrier": (324, 283), "pkey_alloc": (330, 289),
    "pkey_free": (331, 290), "pkey_mprotect": (329, 288), "map_shadow_stack": (453, 453), "mseal": (462, 462),
    # threads
    "futex": (202, 98), "futex_waitv": (449, 449), "futex_wake": (454, 454), "futex_wait": (455, 455),
    "futex_requeue": (456, 456), "set_tid_address": (218, 96), "set_robust_list": (273, 99),
    "get_robust_list": (274, 100), "rseq": (334, 293), "sched_yield": (24, 124), "sched_getaffinity": (204, 123),
    "sched_getparam": (143, 121), "sched_getscheduler": (145, 120), "sched_get_priority_max": (146, 125),
    "sched_get_priority_min": (147, 126), "sched_rr_get_interval": (148, 127), "getcpu": (309, 168),
    "gettid": (186, 178), "getpid": (39, 172), "getppid": (110, 173), "exit": (60, 93), "exit_group": (231, 94),
    "arch_prctl": (158, None), "prctl": (157, 167), "restart_syscall": (219, 128), "wait4": (61, 260),
    "waitid": (247, 95),
    # signals
    "rt_sigaction": (13, 134), "rt_sigprocmask": (14, 135), "rt_sigreturn": (15, 139), "rt_sigpending": (127, 136),
    "rt_sigtimedwait": (128, 137), "rt_sigsuspend": (130, 133), "sigaltstack": (131, 132), "pause": (34, None),
    # files: which ones is Landlock's business
    "read": (0, 63), "write": (1, 64), "pread64": (17, 67), "pwrite64": (18, 68), "readv": (19, 65),
    "writev": (20, 66), "preadv": (295, 69), "pwritev": (296, 70), "preadv2": (327, 286), "pwritev2": (328, 287),
    "lseek": (8, 62), "open": (2, None), "openat": (257, 56), "openat2": (437, 437), "close": (3, 57),
    "close_range": (436, 436), "stat": (4, None), "fstat": (5, 80), "lstat": (6, None), "newfstatat": (262, 79),
    "statx": (332, 291), "statfs": (137, 43), "fstatfs": (138, 44), "access": (21, None), "faccessat": (269, 48),
    "faccessat2": (439, 439), "readlink": (89, None), "readlinkat": (267, 78), "getcwd": (79, 17), "chdir": (80, 49),
    "fchdir": (81, 50), "getdents": (78, None), "getdents64": (217, 61), "mkdir": (83, None), "mkdirat": (258, 34),
    "rmdir": (84, None), "unlink": (87, None), "unlinkat": (263, 35), "rename": (82, None), "renameat": (264, 38),
    "renameat2": (316, 276), "ftruncate": (77, 46), "fallocate": (285, 47), "fsync": (74, 82), "fdatasync": (75, 83),
    "sync_file_range": (277, 84), "fadvise64": (221, 223), "readahead": (187, 213), "dup": (32, 23),
    "dup2": (33, None), "dup3": (292, 24), "umask": (95, 166), "sendfile": (40, 71), "copy_file_range": (326, 285),
    # waiting
    "pipe": (22, None), "pipe2": (293, 59), "poll": (7, None), "ppoll": (271, 73), "select": (23, None),
    "pselect6": (270, 72), "epoll_create": (213, None), "epoll_create1": (291, 20), "epoll_ctl": (233, 21),
    "epoll_wait": (232, None), "epoll_pwait": (281, 22), "epoll_pwait2": (441, 441), "eventfd": (284, None),
    "eventfd2": (290, 19), "timerfd_create": (283, 85), "timerfd_settime": (286, 86), "timerfd_gettime": (287, 87),
    # time
    "clock_gettime": (228, 113), "clock_getres": (229, 114), "clock_nanosleep": (230, 115), "nanosleep": (35, 101),
    "gettimeofday": (96, 169), "time": (201, None), "times": (100, 153), "getitimer": (36, 102),
    "setitimer": (38, 103), "alarm": (37, None),
    # the machine, and who we are
    "uname": (63, 160), "sysinfo": (99, 179), "getrusage": (98, 165), "getrlimit": (97, 163),
    "getuid": (102, 174), "geteuid": (107, 175), "getgid": (104, 176), "getegid": (108, 177), "getresuid": (118, 148),
    "getresgid": (120, 150), "getgroups": (115, 158), "getpgrp": (111, None), "getpgid": (121, 155),
    "getsid": (124, 156), "getpriority": (140, 141), "getrandom": (318, 278), "capget": (125, 90),
}  # fmt: skip
"""Name to number on (x86-64, aarch64); None where the architecture has no such call."""

MACHINES: Mapping[str, tuple[int, int]] = {"x86_64": (0, 0xC000003E), "aarch64": (1, 0xC00000B7)}
"""`platform.machine()` to the column of `ALLOWED` and the AUDIT_ARCH number."""

NEWEST = 469
"""The last number that was looked at."""

CLONE_THREAD = 0x00010000
X32 = 0x40000000
IOCTLS = (0x5401, 0x5413, 0x541B, 0x5421, 0x5450, 0x5451)
"""TCGETS, TIOCGWINSZ, FIONREAD, FIONBIO, FIONCLEX, FIOCLEX: none reaches another process's terminal."""
FCNTLS_REFUSED = (8, 10, 15, 1024, 1026)
"""F_SETOWN, F_SETSIG and F_SETOWN_EX would send signals to others, F_SETLEASE and F_NOTIFY bother them."""

ALLOW, KILL = 0x7FFF0000, 0x80000000
EPERM, ENOSYS = 0x00050000 | errno.EPERM, 0x00050000 | errno.ENOSYS
_LOAD, _RETURN, _JEQ, _JGE, _JSET = 0x20, 0x06, 0x15, 0x35, 0x45
_NR, _ARCH = 0, 4

_Code = tuple[int, int, int, int]
"""code, jt, jf, k."""


def filter_program(machine: str, pid: int) -> bytes:
    """The filter for a process `pid` on `machine`, as an array of `struct sock_filter`. Raises KeyError for a machine
    that is not in MACHINES."""
    column, arch = MACHINES[machine]
    code: list[_Code] = [
        (_LOAD, 0, 0, _ARCH),
        (_JEQ, 1, 0, arch),
        (_RETURN, 0, 0, KILL),
        (_LOAD, 0, 0, _NR),
    ]
    if machine == "x86_64":
        code += [(_JGE, 0, 1, X32), (_RETURN, 0, 0, KILL)]
    for numbers in ALLOWED.values():
        number = numbers[column]
        if number is not None:
            code += [(_JEQ, 0, 1, number), (_RETURN, 0, 0, ALLOW)]
    special: dict[tuple[int, int], list[_Code]] = {
        (56, 220): _argument(0, "any", (CLONE_THREAD,)),  # clone: threads, no processes
        (62, 129): _argument(0, "in", (pid,)),  # kill
        (234, 131): _argument(0, "in", (pid,)),  # tgkill
        (16, 29): _argument(1, "in", IOCTLS),  # ioctl
        (72, 25): _argument(1, "not in", FCNTLS_REFUSED),  # fcntl
        (302, 261): [*_is_zero(2), *_argument(0, "in", (0, pid))],  # prlimit64, to read a limit
        (203, 122): _argument(0, "in", (0, pid)),  # sched_setaffinity
        (435, 435): [(_RETURN, 0, 0, ENOSYS)],  # clone3
    }
    for numbers, body in special.items():
        code += [(_JEQ, 0, len(body), numbers[column]), *body]
    code += [(_JGE, 0, 1, NEWEST + 1), (_RETURN, 0, 0, ENOSYS), (_RETURN, 0, 0, EPERM)]
    return _packed(code)


def refusing(machine: str, numbers: Iterable[int]) -> bytes:
    """A filter under which these system calls answer ENOSYS, as on a kernel without them."""
    code: list[_Code] = [(_LOAD, 0, 0, _ARCH), (_JEQ, 1, 0, MACHINES[machine][1]), (_RETURN, 0, 0, KILL)]
    code.append((_LOAD, 0, 0, _NR))
    for number in numbers:
        code += [(_JEQ, 0, 1, number), (_RETURN, 0, 0, ENOSYS)]
    return _packed([*code, (_RETURN, 0, 0, ALLOW)])


def _argument(index: int, how: str, values: tuple[int, ...]) -> list[_Code]:
    """Allows a call by the low 32 bits of its argument `index`: `in` the values, `not in` them, or with `any` of their
    bits. (The kernel itself reads these arguments as 32-bit integers, but for clone's flags, all in the low half.)"""
    code: list[_Code] = [(_LOAD, 0, 0, 16 + 8 * index)]
    match, otherwise = (EPERM, ALLOW) if how == "not in" else (ALLOW, EPERM)
    for value in values:
        code += [(_JSET if how == "any" else _JEQ, 0, 1, value), (_RETURN, 0, 0, match)]
    return [*code, (_RETURN, 0, 0, otherwise)]


def _is_zero(index: int) -> list[_Code]:
    """Goes on where argument `index`, a pointer, is null; refuses otherwise."""
    halves = [(_LOAD, 0, 0, 16 + 8 * index + at) for at in (0, 4)]
    return [each for load in halves for each in (load, (_JEQ, 1, 0, 0), (_RETURN, 0, 0, EPERM))]


def _packed(code: list[_Code]) -> bytes:
    return b"".join(struct.pack("=HBBI", *instruction) for instruction in code)
