"""Processes that are about to crash, and what is measured of them."""

import ctypes
import gc
import mmap
import os
import pathlib
import resource
import select
import signal
import struct
import subprocess
import sys
import time

PR_SET_CHILD_SUBREAPER = 36
BENCHES = pathlib.Path(__file__).parent


class Receiver:
    """A server of benches/receiver.py."""

    def __init__(self, *arguments):
        self.process = subprocess.Popen([sys.executable, BENCHES / "receiver.py", *arguments],
                                        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self.port = int(self.process.stdout.readline())

    def request(self):
        """When the next request had come, and its body's bytes."""
        return map(int, self.process.stdout.readline().split())

    def end(self):
        self.process.communicate()


class Host:
    """A process that is about to crash, and its monitor."""

    number = 0

    def __init__(self, folder, program, dsn=None, mib=0, look="-", threads=0):
        Host.number += 1
        self.state = folder / f"crash-{Host.number}"
        self.state.mkdir(mode=0o700)
        environment = {"ONDAT_TELEMETRY_STATE_DIR": str(self.state), "ONDAT_TELEMETRY_SENTRY_DSN": dsn or ""}
        if (folder / "certificate.pem").exists():
            environment["ONDAT_TELEMETRY_CA_FILE"] = str(folder / "certificate.pem")
        shared = os.memfd_create("fault")
        os.truncate(shared, mmap.PAGESIZE)
        self.shared = mmap.mmap(shared, mmap.PAGESIZE)
        stdin, self.stdin = os.pipe()
        ours, stdout = os.pipe()
        before = children()
        self.pid = os.posix_spawn(program, [program, str(mib), look, str(threads)], environment, file_actions=[
            (os.POSIX_SPAWN_DUP2, stdin, 0), (os.POSIX_SPAWN_DUP2, stdout, 1), (os.POSIX_SPAWN_DUP2, shared, 3)])
        for descriptor in (stdin, stdout, shared):
            os.close(descriptor)
        self.said = {}
        with open(ours) as lines:
            for line in lines:
                if line == "ready\n":
                    break
                name, value = line.split()
                self.said[name] = int(value)
            else:
                sys.exit("the host did not become ready")
        # A helper that is still the host's own child is one that the host names.
        self.monitor = self.said.get("helper") or next(iter(children() - before - {self.pid}), None)
        self.pidfd = os.pidfd_open(self.pid)

    def crash(self, bound_ms=None):
        """Nanoseconds from the fault to the death, and when the fault was; None if it lives on after the bound."""
        poll = select.poll()
        poll.register(self.pidfd, select.POLLIN)
        os.write(self.stdin, b"\n")
        if not poll.poll(bound_ms):
            return None
        died = time.monotonic_ns()
        status = self.reap()
        if os.WTERMSIG(status) != signal.SIGSEGV:
            sys.exit(f"the host did not crash: {status:#x}")
        (fault,) = struct.unpack_from("q", self.shared)
        self.shared.close()
        return died - fault, fault

    def reap(self):
        _, status = os.waitpid(self.pid, 0)
        os.close(self.stdin)
        os.close(self.pidfd)
        return status

    def wait_for_monitor(self):
        if self.monitor:
            os.waitpid(self.monitor, 0)


def children():
    path = f"/proc/self/task/{os.getpid()}/children"
    return set(map(int, pathlib.Path(path).read_text().split()))


def percentile(times, percent):
    times = sorted(times)
    return times[min(len(times) - 1, len(times) * percent // 100)] / 1e6


def print_times(what, times):
    high = "p99" if len(times) >= 100 else "max"
    print(f"{what:<44} p50 {percentile(times, 50):8.3f} ms   {high} {percentile(times, 99):8.3f} ms   (of {len(times)})",
          flush=True)


def memory(pid):
    lines = pathlib.Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()[1:]
    return {line.split()[0].rstrip(":"): int(line.split()[1]) for line in lines}


def in_words(kib):
    return (f"{kib['Rss']} KiB resident, {kib['Pss']} proportional, {kib['Private_Clean'] + kib['Private_Dirty']} private"
            f" of which {kib['Private_Dirty']} dirty")


def become_parent_of_crashes():
    """What a crashed process leaves behind becomes a child of this one, and no core files are written."""
    gc.disable()
    ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
