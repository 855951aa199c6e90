"""Which files a process may still open: Landlock (Linux, Documentation/userspace-api/landlock.rst)."""

from __future__ import annotations

import ctypes
import os
import stat
import struct
from collections.abc import Iterable

CREATE_RULESET, ADD_RULE, RESTRICT_SELF = 444, 445, 446
"""System calls; the same numbers on x86-64 and aarch64."""
_VERSION, _PATH_BENEATH = 1, 1

_WRITE_FILE, _READ_FILE, _READ_DIR, _REMOVE_DIR, _REMOVE_FILE = 1 << 1, 1 << 2, 1 << 3, 1 << 4, 1 << 5
_MAKE_DIR, _MAKE_REG, _TRUNCATE = 1 << 7, 1 << 8, 1 << 14
READ = _READ_FILE | _READ_DIR
WRITE = READ | _WRITE_FILE | _REMOVE_DIR | _REMOVE_FILE | _MAKE_DIR | _MAKE_REG | _TRUNCATE
_OF_FILES = _WRITE_FILE | _READ_FILE | _TRUNCATE
_FILESYSTEM = {1: (1 << 13) - 1, 2: (1 << 14) - 1, 3: (1 << 15) - 1, 4: (1 << 15) - 1, 5: (1 << 16) - 1}
"""All rights over files by version of the interface; from 5 on they are the same."""
_NETWORK, _SCOPES = 0b11, 0b11
"""bind and connect of TCP (from version 4); abstract sockets and signals outside (from version 6)."""


def version(libc: ctypes.CDLL) -> int:
    """The kernel's version of the interface; 0 where it has none, or has it switched off."""
    return max(0, int(libc.syscall(CREATE_RULESET, None, 0, _VERSION)))


def restrict(libc: ctypes.CDLL, read: Iterable[str], write: Iterable[str]) -> int:
    """From here on this process opens only what lies under `read` and `write` (paths that do not exist are passed over);
    no_new_privs must be set. The version of the interface, 0 where nothing was restricted. Raises OSError."""
    found = version(libc)
    if found == 0:
        return 0
    handled = _FILESYSTEM[min(found, 5)]
    attributes = struct.pack("=QQQ", handled, _NETWORK, _SCOPES)[: 24 if found >= 6 else 16 if found >= 4 else 8]
    ruleset = _checked(libc.syscall(CREATE_RULESET, attributes, ctypes.c_size_t(len(attributes)), 0))
    try:
        for paths, rights in ((read, READ), (write, WRITE)):
            for path in paths:
                _allow(libc, ruleset, path, rights & handled)
        _checked(libc.syscall(RESTRICT_SELF, ruleset, 0))
    finally:
        os.close(ruleset)
    return found


def _allow(libc: ctypes.CDLL, ruleset: int, path: str, rights: int) -> None:
    try:
        at = os.open(path, os.O_PATH | os.O_CLOEXEC)
    except (FileNotFoundError, NotADirectoryError, PermissionError):
        return
    try:
        if not stat.S_ISDIR(os.fstat(at).st_mode):
            rights &= _OF_FILES
        rule = struct.pack("=Qi", rights, at)
        _checked(libc.syscall(ADD_RULE, ruleset, _PATH_BENEATH, rule, 0))
    finally:
        os.close(at)


def _checked(result: int) -> int:
    if result < 0:
        number = ctypes.get_errno()
        raise OSError(number, f"landlock: {os.strerror(number)}")
    return result
