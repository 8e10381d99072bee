"""What crash reporting costs its host, against the same program without the library, run in turn.

    crash.py FOLDER HOST_WITHOUT HOST_WITH RUNS GIB...
"""

import pathlib
import socket
import subprocess
import sys
import time

from hosts import Host, Receiver, become_parent_of_crashes, in_words, memory, percentile, print_times

IDLE_SECONDS = 5
REST_SECONDS = 1
# Those of a process with gigabytes take seconds each.
FEWEST_RUNS = 10
WORK = pathlib.Path(sys.argv[1])
WITHOUT, WITH = sys.argv[2:4]
RUNS = int(sys.argv[4])
GIBS = [int(size) for size in sys.argv[5:]]


def print_against(what, without, with_):
    print_times(f"{what}, without", without)
    print_times(f"{what}, with", with_)
    pairs = [(percentile(with_, percent), percentile(without, percent)) for percent in (50, 99)]
    more, ratio = [f"{a - b:+8.3f}" for a, b in pairs], [f"{a / b:.2f}" for a, b in pairs]
    print(f"{'  the difference':<44}     {more[0]} ms       {more[1]} ms   ratios {ratio[0]} and {ratio[1]}")


def deaths(what, dsn, runs, mib=0, receiver=None, waits=True):
    """In turn, so that what else the machine does falls on both, and each as often after the other."""
    without, with_, reports, hosts = [], [], [], []
    for run in range(2 * runs):
        if run % 4 in (0, 3):
            without.append(Host(WORK, WITHOUT, mib=mib).crash()[0])
            continue
        host = Host(WORK, WITH, dsn, mib)
        death, fault = host.crash()
        with_.append(death)
        if receiver:
            came, size = receiver.request()
            reports.append(came - fault)
        if waits:
            host.wait_for_monitor()
        hosts.append(host)
    print_against(f"fault to death, {what}", without, with_)
    if reports:
        print_times(f"fault to report, {what}", reports)
        print(f"{'  its body':<44} {size} bytes")
    return hosts


def print_calls(what, hosts):
    for name, words in [("calls_ns", "init and install"), ("init_ns", "  init"), ("install_ns", "  install"),
                        ("ready_ns", "  and until the monitor is ready")]:
        print_times(f"{words}, {what}", [host.said[name] for host in hosts])


def seen(host, when):
    """What the host saw in itself then."""
    return {name.removeprefix(when): value for name, value in host.said.items() if name.startswith(when)}


def available_kib():
    lines = pathlib.Path("/proc/meminfo").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("MemAvailable:"))


def switches(pid):
    """How often it has been given a processor and has given it back."""
    lines = pathlib.Path(f"/proc/{pid}/status").read_text().splitlines()
    return sum(int(line.split()[1]) for line in lines if "ctxt_switches" in line)


def wait_for_rest(pid):
    """The monitor gives memory back after its host was told that it watches."""
    before = None
    while before != (now := switches(pid)):
        before = now
        time.sleep(REST_SECONDS)


def at_rest(dsn):
    without, host = Host(WORK, WITHOUT, look="look"), Host(WORK, WITH, dsn, look="look")
    for what, before in [("the program without", seen(without, "after_")), ("before init", seen(host, "before_"))]:
        more = {name: value - before[name] for name, value in seen(host, "after_").items()}
        print(f"{'host, more than ' + what:<44} {in_words(more)}, {more['threads']} threads, "
              f"{more['descriptors']} descriptors")
    wait_for_rest(host.monitor)
    print(f"{'monitor':<44} {in_words(memory(host.monitor))}")
    before = switches(host.monitor)
    time.sleep(IDLE_SECONDS)
    print(f"{f'monitor, wakeups in {IDLE_SECONDS} s of rest':<44} {switches(host.monitor) - before}")
    without.crash()
    host.crash()
    host.wait_for_monitor()


def main():
    become_parent_of_crashes()
    closed = socket.socket()
    closed.bind(("127.0.0.1", 0))
    down = f"http://key@127.0.0.1:{closed.getsockname()[1]}/1"
    certificate, key = WORK / "certificate.pem", WORK / "key.pem"

    at_rest(down)
    hosts = deaths("endpoint down", down, RUNS)
    print_calls("small", hosts)
    plain = Receiver("plain")
    deaths("HTTP", f"http://key@127.0.0.1:{plain.port}/1", RUNS, receiver=plain)
    plain.end()
    for kind in ["slow", "hanging"]:
        receiver = Receiver(kind)
        hosts = deaths(f"endpoint {kind}", f"http://key@127.0.0.1:{receiver.port}/1", RUNS, waits=False)
        receiver.end()
        for host in hosts:
            host.wait_for_monitor()
    for gib in GIBS:
        if gib << 20 > available_kib():
            print(f"{gib} GiB: there is not so much memory")
            continue
        print_calls(f"{gib} GiB", deaths(f"{gib} GiB", down, max(RUNS // (8 * gib), FEWEST_RUNS), mib=gib << 10))
    subprocess.run(["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-noenc",
                    "-subj", "/CN=bench", "-addext", "subjectAltName=IP:127.0.0.1",
                    "-addext", "basicConstraints=critical,CA:FALSE", "-keyout", key, "-out", certificate],
                   check=True, stderr=subprocess.DEVNULL)
    tls = Receiver("tls", certificate, key)
    deaths("HTTPS", f"https://key@127.0.0.1:{tls.port}/1", RUNS, receiver=tls)
    tls.end()


main()
