"""Crash reporters of others (benches/peers) beside ours, run in turn: from the fault to the death, installing, the helper.

    peers.py FOLDER HOST_WITHOUT HOST_WITH FOLDER_OF_PEERS RUNS

Needs a folder of its own. On a frozen disk means: all of them write to a file system that takes no more writes when the
host faults, until it is dead or has had its time. Peers write their reports there; ours has its state directory there and
sends to a receiver on loopback.
"""

import ctypes
import fcntl
import os
import pathlib
import select
import shutil
import signal
import statistics
import subprocess
import sys
import time

from hosts import Host, Receiver, become_parent_of_crashes, children, memory, percentile

# linux/fs.h, linux/sched.h
FIFREEZE = 0xC0045877
FITHAW = 0xC0045878
CLONE_NEWNS = 0x00020000

BUSY_THREADS = 8
DISK_BYTES = 64 << 20
WARM_UP = 3
# Longer than the longest timeout that one of them has by itself: libdd-crashtracker's, 5 s.
BOUND_MS = 7000
# Who has not ended so often is not asked again: each costs the bound.
ENOUGH_HANGS = 5
HELPERS = 5
REST_SECONDS = 1
HELPER_ENDS_MS = 20_000

WORK = pathlib.Path(sys.argv[1])
WITHOUT, WITH = sys.argv[2:4]
PEERS = pathlib.Path(sys.argv[4])
RUNS = int(sys.argv[5])
OURS = "ours"
PROGRAMS = {"without a handler": WITHOUT, OURS: WITH, "crash-handler, minidumper": PEERS / "crash-handler-host",
            "libdd-crashtracker": PEERS / "libdd-host"}


class Contender:
    """One of the programs under one condition, and what was measured of it."""

    def __init__(self, name):
        self.name = name
        self.deaths, self.calls = [], []
        self.runs = self.reports = self.hangs = 0

    def is_asked(self):
        return self.hangs < ENOUGH_HANGS

    def run(self, condition, counts):
        before = children()
        host = Host(condition.folder, PROGRAMS[self.name], condition.dsn, threads=condition.threads)
        with condition.frozen():
            crash = host.crash(condition.bound_ms)
        if not crash:
            os.kill(host.pid, signal.SIGKILL)
            host.reap()
        wait_for_all(children() - before)
        reported = condition.requests() if self.name == OURS else has_text(host.state / "report")
        shutil.rmtree(host.state)
        # A hang counts in any case, as it costs the bound.
        if not counts and crash:
            return
        self.runs += 1
        self.reports += bool(reported)
        self.calls.append(host.said.get("calls_ns"))
        if crash:
            self.deaths.append(crash[0])
        else:
            self.hangs += 1


class Condition:
    """Where and beside what the programs crash."""

    bound_ms = None

    def __init__(self, what, folder, receiver, threads=0):
        self.what, self.folder, self.receiver, self.threads = what, folder, receiver, threads
        self.dsn = f"http://key@127.0.0.1:{receiver.port}/1"

    def frozen(self):
        return Warm()

    def requests(self):
        """How many have come since the last question: the receiver says so before it answers."""
        ours = self.receiver.process.stdout.fileno()
        return os.read(ours, 65536).count(b"\n") if select.select([ours], [], [], 0)[0] else 0

    def measure(self):
        contenders = [Contender(name) for name in PROGRAMS]
        for run in range(WARM_UP + RUNS):
            for contender in contenders:
                if contender.is_asked():
                    contender.run(self, run >= WARM_UP)
        return {contender.name: contender for contender in contenders}


class Warm:
    """Not frozen."""

    def __enter__(self):
        pass

    def __exit__(self, *_):
        pass


class Frozen:
    """The file system of a folder, while it takes no writes."""

    def __init__(self, folder):
        self.folder = os.open(folder, os.O_RDONLY)

    def __enter__(self):
        fcntl.ioctl(self.folder, FIFREEZE, 0)

    def __exit__(self, *_):
        fcntl.ioctl(self.folder, FITHAW, 0)
        os.close(self.folder)


class OnFrozenDisk(Condition):
    """With the folder on a disk of its own."""

    bound_ms = BOUND_MS

    def frozen(self):
        return Frozen(self.folder)


def has_text(path):
    return path.is_file() and path.stat().st_size > 0


def wait_for_all(processes):
    """Until these children have ended: helpers that outlive their host."""
    for pid in processes:
        pidfd = os.pidfd_open(pid)
        poll = select.poll()
        poll.register(pidfd, select.POLLIN)
        if not poll.poll(HELPER_ENDS_MS):
            print(f"process {pid} does not end and is killed")
            os.kill(pid, signal.SIGKILL)
        os.close(pidfd)
        os.waitpid(pid, 0)


def disk():
    """A file system that nobody else uses, in a mount namespace that ends with this process; or why there is none."""
    if os.geteuid() != 0:
        return None, "only root can freeze one"
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.unshare(CLONE_NEWNS) != 0:
        return None, f"no mount namespace: {os.strerror(ctypes.get_errno())}"
    image, folder = WORK / "disk.img", WORK / "disk"
    folder.mkdir()
    with open(image, "wb") as file:
        file.truncate(DISK_BYTES)
    try:
        for command in (["mount", "--make-rprivate", "/"], ["mkfs.ext4", "-q", image],
                        ["mount", "-o", "loop", image, folder]):
            subprocess.run(command, check=True, capture_output=True, text=True)
    except (OSError, subprocess.CalledProcessError) as error:
        return None, (getattr(error, "stderr", None) or str(error)).strip()
    return folder, None


def print_times(what, times_of, of_all):
    """A row for each with its median and highest, and how many times as long as its ours takes."""
    high = "p99" if RUNS >= 100 else "max"
    print(f"\n{what}, {RUNS} runs in turn{'':<2}{'p50':>10} {high:>12}    ours to it: p50, {high}")
    ours = times_of[OURS]
    for name, times in times_of.items():
        row = f"  {name:<28}"
        if times:
            row += f"{percentile(times, 50):>10.3f} ms {percentile(times, 99):>9.3f} ms"
            if name != OURS and ours:
                row += "".join(f"{percentile(ours, each) / percentile(times, each):>12.2f}" for each in (50, 99))
        print(row + of_all(name), flush=True)


def print_deaths(condition):
    contenders = condition.measure()

    def words(name):
        one = contenders[name]
        hangs = f"   {one.hangs} of {one.runs} did not end in {BOUND_MS // 1000} s" if one.hangs else ""
        return hangs + (f"   {one.reports} of {one.runs} reported" if PROGRAMS[name] != WITHOUT else "")

    print_times(f"fault to death, {condition.what}", {name: one.deaths for name, one in contenders.items()}, words)
    calls = {name: one.calls for name, one in contenders.items() if all(one.calls)}
    print_times(f"init and install, {condition.what}", calls, lambda _: "")


def print_helpers(condition):
    print(f"\nhelper at rest, medians of {HELPERS}, KiB")
    for name, program in PROGRAMS.items():
        found = []
        for _ in range(HELPERS):
            before = children()
            host = Host(condition.folder, program, condition.dsn)
            if host.monitor:
                time.sleep(REST_SECONDS)
                found.append(memory(host.monitor))
            host.crash()
            wait_for_all(children() - before)
            condition.requests()
        if found:
            kinds = {"resident": ["Rss"], "proportional": ["Pss"], "private": ["Private_Clean", "Private_Dirty"]}
            medians = {what: statistics.median(sum(each[kind] for kind in of) for each in found) for what, of in kinds.items()}
            print(f"  {name:<28}" + ", ".join(f"{kib:.0f} {what}" for what, kib in medians.items()))
        else:
            print(f"  {name:<28}none")


def main():
    become_parent_of_crashes()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    folder, why_not = disk()
    receiver = Receiver("plain")
    quiet = Condition("quiet", WORK, receiver)
    print_helpers(quiet)
    print_deaths(quiet)
    print_deaths(Condition(f"{BUSY_THREADS} busy threads in it", WORK, receiver, BUSY_THREADS))
    if folder:
        print_deaths(OnFrozenDisk("frozen disk", folder, receiver))
    else:
        print(f"\nfrozen disk: left out, {why_not}")
    receiver.end()


main()
