"""What runs first in the sandbox's process: it gives up everything, says so, and becomes the untrusted program.

A script of its own, started by `sandbox.py` with an empty environment; it imports nothing of prefdata. On Linux, in this
order: resource limits; own user, network and IPC namespaces where the kernel lets users make them; Landlock, so that no
file can be opened but Python's own and those of the working folder; a seccomp filter, so that there is no socket, no
child process, no signal to others, no tracing, no change of a file's mode or owner, and no memory that outlives the
process. What could not be set up is written to the status pipe, and then nothing is run.
"""

from __future__ import annotations

import ctypes
import json
import os
import platform
import resource
import struct
import sys
from pathlib import Path
from typing import Any

_LIBC = ctypes.CDLL(None, use_errno=True)
_FULL = "full"
_BOOT = (
    "import builtins, runpy, sys, _sitebuiltins\n"
    "builtins.exit = builtins.quit = _sitebuiltins.Quitter('exit', 'Ctrl-D')\n"
    "sys.argv = ['program.py']\n"
    "del builtins, sys, _sitebuiltins\n"
    "runpy.run_path('program.py', run_name='__main__')\n"
)
"""The interpreter runs without `site`, which is where scripts get exit() from."""

_NO_NEW_PRIVS, _PDEATHSIG, _CAPBSET_DROP, _SECCOMP = 38, 1, 24, 22
_SIGKILL = 9
_NEWNS_FREE = 0x10000000 | 0x40000000 | 0x08000000 | 0x04000000
"""User, network, IPC and host-name namespaces."""
_THREADS = 64

# Landlock: system calls and rights, https://docs.kernel.org/userspace-api/landlock.html
_LL_CREATE, _LL_ADD, _LL_RESTRICT = 444, 445, 446
_EXECUTE, _WRITE, _READ, _READ_DIR, _REMOVE_DIR, _REMOVE, _MAKE_DIR, _MAKE_REG = (1 << n for n in (0, 1, 2, 3, 4, 5, 7, 8))
_REFER, _TRUNCATE = 1 << 13, 1 << 14
_RIGHTS = {1: 13, 2: 14, 3: 15, 4: 15, 5: 16}
"""Version of Landlock -> how many rights to files it knows; later ones know 16."""
_OF_FILES = _EXECUTE | _WRITE | _READ | _TRUNCATE

_MACHINES = {"x86_64": (0, 0xC000003E), "aarch64": (1, 0xC00000B7)}
"""Machine -> its column in `_DENIED`, and what seccomp calls it."""
_DENIED = {
    # network, processes, other processes' memory
    "socket": (41, 198), "fork": (57, None), "vfork": (58, None), "ptrace": (101, 117), "process_vm_readv": (310, 270),
    "process_vm_writev": (311, 271), "kcmp": (312, 272), "pidfd_open": (434, 434), "pidfd_getfd": (438, 438),
    "pidfd_send_signal": (424, 424), "rt_sigqueueinfo": (129, 138), "rt_tgsigqueueinfo": (297, 240), "process_madvise": (440, 440),
    "process_mrelease": (448, 448), "move_pages": (279, 239), "migrate_pages": (256, 238), "io_uring_setup": (425, 425),
    "io_uring_enter": (426, 426), "io_uring_register": (427, 427), "bpf": (321, 280), "perf_event_open": (298, 241),
    "userfaultfd": (323, 282),
    # memory that counts for nobody or outlives the process
    "shmget": (29, 194), "semget": (64, 190), "msgget": (68, 186), "mq_open": (240, 180), "memfd_create": (319, 279),
    "memfd_secret": (447, 447), "add_key": (248, 217), "request_key": (249, 218), "keyctl": (250, 219),
    # namespaces, mounts, files past Landlock, the machine
    "unshare": (272, 97), "setns": (308, 268), "mount": (165, 40), "umount2": (166, 39), "pivot_root": (155, 41), "chroot": (161, 51),
    "open_tree": (428, 428), "move_mount": (429, 429), "fsopen": (430, 430), "fsconfig": (431, 431), "fsmount": (432, 432),
    "fspick": (433, 433), "mount_setattr": (442, 442), "open_by_handle_at": (304, 265), "fanotify_init": (300, 262),
    "syslog": (103, 116), "kexec_load": (246, 104), "kexec_file_load": (320, 294), "init_module": (175, 105),
    "finit_module": (313, 273), "delete_module": (176, 106), "swapon": (167, 224), "swapoff": (168, 225), "reboot": (169, 142),
    "quotactl": (179, 60), "acct": (163, 89),
    # what Landlock lets pass: length, mode, owner, times and attributes of files by their path
    "truncate": (76, 45), "chmod": (90, None), "fchmod": (91, 52), "fchmodat": (268, 53), "fchmodat2": (452, 452), "chown": (92, None),
    "fchown": (93, 55), "lchown": (94, None), "fchownat": (260, 54), "utime": (132, None), "utimes": (235, None),
    "futimesat": (261, None), "utimensat": (280, 88), "setxattr": (188, 5), "lsetxattr": (189, 6), "fsetxattr": (190, 7),
    "removexattr": (197, 14), "lremovexattr": (198, 15), "fremovexattr": (199, 16), "setxattrat": (463, 463), "removexattrat": (466, 466),
}  # fmt: skip
_CLONE, _CLONE3, _OWN_ONLY, _PRLIMIT = (56, 220), (435, 435), ((62, 129), (200, 130), (234, 131)), (302, 261)
"""clone for threads only; kill, tkill and tgkill of this process only; prlimit64 of this process only."""
_LOAD, _EQUAL, _AT_LEAST, _ANY_BIT, _RETURN = 0x20, 0x15, 0x35, 0x45, 0x06
_ALLOW, _KILL, _NO, _UNKNOWN = 0x7FFF0000, 0x80000000, 0x00050000 | 1, 0x00050000 | 38
"""Verdicts of a filter: let pass, end the process, EPERM, ENOSYS."""
_THREAD_FLAG = 0x10000


def limit(settings: dict[str, Any]) -> None:
    """Resources; memory comes last of all, since it may be too little for this script."""
    os.umask(0o077)
    seconds = int(settings["cpu_seconds"])
    for what, most in (
        (resource.RLIMIT_CPU, (seconds, seconds + 1)),
        (resource.RLIMIT_FSIZE, (settings["file_bytes"],) * 2),
        (resource.RLIMIT_NOFILE, (settings["open_files"],) * 2),
        (resource.RLIMIT_CORE, (0, 0)),
    ):
        resource.setrlimit(what, most)


def leave_namespaces() -> bool:
    """Own namespaces, in which there is no network device and no right over anything; False where that is not allowed."""
    if os.geteuid() == 0:
        for capability in range(64):  # none comes back with the program
            _LIBC.prctl(_CAPBSET_DROP, capability, 0, 0, 0)
    if _LIBC.unshare(_NEWNS_FREE) != 0:
        return False
    resource.setrlimit(resource.RLIMIT_NPROC, (_THREADS, _THREADS))  # counted in the new namespace, where it is alone
    return True


def shut_files(folder: Path) -> bool:
    """Landlock: read and run Python and its libraries, read and write `folder`, open nothing else."""
    version = _LIBC.syscall(_LL_CREATE, None, ctypes.c_size_t(0), 1)
    if version < 1:
        return False
    known = (1 << _RIGHTS.get(version, 16)) - 1
    attributes = struct.pack("<QQQ", known, 3 if version >= 4 else 0, 3 if version >= 6 else 0)
    size = 24 if version >= 6 else 16 if version >= 4 else 8
    ruleset = _LIBC.syscall(_LL_CREATE, attributes, ctypes.c_size_t(size), 0)
    if ruleset < 0:
        return False
    reading = _EXECUTE | _READ | _READ_DIR
    writing = _READ | _READ_DIR | _WRITE | _MAKE_REG | _MAKE_DIR | _REMOVE | _REMOVE_DIR | _REFER | _TRUNCATE
    rules: list[tuple[str | Path, int]] = [(path, reading) for path in _of_python()]
    rules += [(path, _READ) for path in ("/dev/urandom", "/dev/random", "/dev/zero", "/etc/ld.so.cache", "/etc/localtime")]
    for path, rights in [*rules, ("/dev/null", _READ | _WRITE), (folder, writing)]:
        if not _allow(ruleset, path, rights & known):
            return False
    return bool(_LIBC.syscall(_LL_RESTRICT, ruleset, 0) == 0)


def _of_python() -> list[str | Path]:
    places = {Path(sys.executable).resolve().parent, Path(os.__file__).parent}
    places |= {Path(prefix) / lib for prefix in (sys.base_prefix, sys.base_exec_prefix) for lib in ("lib", "lib64")}
    return [*sorted(places), "/lib", "/lib64", "/usr/lib", "/usr/lib64", "/usr/share/zoneinfo", "/nix/store"]


def _allow(ruleset: int, path: str | Path, rights: int) -> bool:
    try:
        place = os.open(path, os.O_PATH | os.O_CLOEXEC)
    except OSError:
        return True  # what is not there needs no rule
    try:
        rights &= ~0 if Path(path).is_dir() else _OF_FILES
        return bool(_LIBC.syscall(_LL_ADD, ruleset, 1, struct.pack("<Qi", rights, place), 0) == 0)
    finally:
        os.close(place)


def filter_calls() -> bool:
    """The seccomp filter; False on a machine whose system calls are not listed here, or where the kernel refuses."""
    if platform.machine() not in _MACHINES or sys.byteorder != "little":
        return False
    column, architecture = _MACHINES[platform.machine()]
    program = b"".join(struct.pack("<HBBI", *step) for step in _program(column, architecture))
    buffer = ctypes.create_string_buffer(program, len(program))
    whole = struct.pack("@HP", len(program) // 8, ctypes.addressof(buffer))
    return bool(_LIBC.prctl(_SECCOMP, 2, whole, 0, 0) == 0)


def _program(column: int, architecture: int) -> list[tuple[int, int, int, int]]:
    """Steps (code, jump if true, jump if false, operand) over struct seccomp_data: call number at 0, machine at 4, arguments from 16."""
    steps = [(_LOAD, 0, 0, 4), (_EQUAL, 1, 0, architecture), (_RETURN, 0, 0, _KILL), (_LOAD, 0, 0, 0)]
    if column == 0:  # the x32 numbers of the same calls
        steps += [(_AT_LEAST, 0, 1, 0x40000000), (_RETURN, 0, 0, _KILL)]
    for numbers in _DENIED.values():
        number = numbers[column]
        if number is not None:
            steps += [(_EQUAL, 0, 1, number), (_RETURN, 0, 0, _NO)]
    steps += [(_EQUAL, 0, 1, _CLONE3[column]), (_RETURN, 0, 0, _UNKNOWN)]  # its flags cannot be seen: libc falls back to clone
    steps += _unless(_CLONE[column], [(_ANY_BIT, 0, 1, _THREAD_FLAG)])
    for own in _OWN_ONLY:
        steps += _unless(own[column], [(_EQUAL, 0, 1, os.getpid())])
    steps += _unless(_PRLIMIT[column], [(_EQUAL, 0, 1, 0), (_EQUAL, 0, 1, os.getpid())])
    return [*steps, (_RETURN, 0, 0, _ALLOW)]


def _unless(number: int, tests: list[tuple[int, int, int, int]]) -> list[tuple[int, int, int, int]]:
    """This call is refused unless its first argument passes one of the tests."""
    inside = [step for test in tests for step in (test, (_RETURN, 0, 0, _ALLOW))]
    return [(_EQUAL, 0, len(inside) + 2, number), (_LOAD, 0, 0, 16), *inside, (_RETURN, 0, 0, _NO)]


def isolate(folder: Path) -> list[str]:
    """Shut out network, files and other processes; what could not be, in words."""
    if sys.platform != "linux":
        return ["this system has neither Landlock nor seccomp"]
    leave_namespaces()
    _LIBC.prctl(_NO_NEW_PRIVS, 1, 0, 0, 0)
    _LIBC.prctl(_PDEATHSIG, _SIGKILL, 0, 0, 0)
    lacking = [] if shut_files(folder) else ["the kernel has no Landlock (Linux 5.13), so files could be read and changed"]
    return lacking + ([] if filter_calls() else ["no seccomp filter could be set, so the network would be open"])


def main() -> None:
    """Settings come as JSON on the command line; the status pipe hears `ready`, or why nothing is run."""
    settings = json.loads(sys.argv[1])
    status = settings["status"]
    limit(settings)
    lacking = isolate(Path.cwd())
    if lacking and settings["isolation"] == _FULL:
        os.write(status, "; ".join(lacking).encode())
        os._exit(1)
    flags = ["-s", "-S", "-B", "-X", "utf8", "-c", _BOOT]
    os.write(status, b"ready")
    os.close(status)
    try:
        resource.setrlimit(resource.RLIMIT_AS, (settings["memory_bytes"],) * 2)
    except (ValueError, OSError):
        if sys.platform == "linux":  # elsewhere the bound may not exist
            raise
    os.execv(sys.executable, [sys.executable, *flags])


if __name__ == "__main__":
    main()
