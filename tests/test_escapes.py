"""One attack per promise of the sandbox: it must fail inside, and the same program must succeed outside.

The second half is the proof that the first can fail. Where an attempt outside depends on the kernel, on a setting or on
being root, its row says so, and only the inside is then held.
"""

import contextlib
import os
import pty
import resource
import shutil
import signal
import socket
import stat
import subprocess
import sys
import threading
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import pytest
from residue import gone, processes

from nightfleet.native import Completed, Sandbox

SECRET = "nightfleet-secret-7f3a"  # noqa: S105 -- planted where an attack looks for one
ROOT = os.geteuid() == 0


@dataclass(frozen=True)
class Attack:
    """A program of attempts, and which of them say something outside the sandbox."""

    program: str
    outside: tuple[str, ...] = ()  # arguments of the control
    varies: frozenset[str] = frozenset()  # the kernel, a sysctl or a container decides these outside
    as_root: frozenset[str] = frozenset()  # succeed outside for root only


ATTACKS = [
    Attack(
        "namespaces",
        varies=frozenset({"setns-init", "setns-pidfd"}),
        as_root=frozenset({"setns-own"}),
    ),
    Attack("mounts", outside=("own-namespace",), varies=frozenset({"umount-proc", "proc", "mount-setattr"})),
    Attack(
        "doors",
        outside=("control",),
        varies=frozenset(
            {"io-uring-setup", "io-uring-enter", "io-uring-register", "userfaultfd", "bpf", "perf", "syslog"}
            | {"request-key", "add-key", "keyctl", "realtime", "open-by-handle"}
        ),
    ),
    Attack("foreign_abi", varies=frozenset({"int80-getpid", "int80-socket", "x32-getpid"})),
]


def attempts(output: bytes) -> dict[str, str]:
    """What each attempt of a program came to."""
    lines = [line for line in output.decode().splitlines() if not line.startswith("#")]
    found = dict(line.split(": ", 1) for line in lines)
    assert found, output
    assert len(found) == len(lines), f"an attempt reported twice: {lines}"
    return found


def successes(tried: dict[str, str]) -> list[str]:
    """The attempts that were not clearly stopped."""
    return [f"{name}: {came}" for name, came in tried.items() if came.split()[0] not in {"refused", "killed"}]


def outside(program: Path, *arguments: str, cwd: Path | None = None, pass_fds: Sequence[int] = ()) -> bytes:
    """The same program with no sandbox around it."""
    done = subprocess.run(
        [program, *arguments], capture_output=True, cwd=cwd, pass_fds=pass_fds, timeout=120, check=False
    )
    assert done.returncode == 0, (done.returncode, done.stdout, done.stderr)
    return done.stdout


def inside(
    tree: Path,
    *argv: str,
    env: Mapping[str, str] | None = None,
    cores: Sequence[int] = (),
    network: Literal["loopback"] | None = None,
) -> Completed:
    """One run in a sandbox of its own, which must end well."""
    with Sandbox(tree, env=env or {}, cores=cores, network=network) as sandbox:
        done = sandbox.run(argv)
    assert done.outcome == "ok", (done.outcome, done.status, done.stdout, done.stderr)
    return done


@pytest.fixture
def tree(programs: Path, open_ground: Path) -> Path:
    """A tree with the programs in it, in a directory where a neighbour lives too."""
    shutil.copytree(programs, open_ground / "tree")
    return open_ground / "tree"


@pytest.fixture
def neighbour(open_ground: Path) -> Path:
    """A file beside the tree that any user of the host may read and write."""
    (open_ground / "beside").mkdir(mode=0o777)
    file = open_ground / "beside" / "secret"
    file.write_text(SECRET)
    file.chmod(0o666)
    (open_ground / "beside").chmod(0o777)
    return file


@pytest.mark.parametrize("attack", ATTACKS, ids=lambda attack: attack.program)
def test_every_attempt_fails_inside(attack: Attack, programs: Path) -> None:
    tried = attempts(inside(programs, f"./{attack.program}").stdout)
    assert successes(tried) == []


@pytest.mark.parametrize("attack", ATTACKS, ids=lambda attack: attack.program)
def test_the_same_attempts_succeed_outside(attack: Attack, programs: Path) -> None:
    tried = attempts(outside(programs / attack.program, *attack.outside))
    excused = attack.varies | (frozenset() if ROOT else attack.as_root)
    assert {name: came for name, came in tried.items() if came != "done" and name not in excused} == {}


def test_clone3_does_not_exist_inside(programs: Path) -> None:
    # A filter cannot read clone3's flags; ENOSYS makes the C library fall back to clone, whose flags it can.
    tried = attempts(inside(programs, "./namespaces").stdout)
    assert {came for name, came in tried.items() if name.startswith("clone3")} == {"refused ENOSYS"}


def test_foreign_system_calls_are_not_served(programs: Path) -> None:
    if os.uname().machine != "x86_64":
        pytest.skip("int 0x80 and x32 are x86-64's")
    tried = attempts(inside(programs, "./foreign_abi").stdout)
    assert set(tried) == {"int80-getpid", "int80-socket", "x32-getpid"}


READ_TARGETS = ["neighbour", "shadow", "home"]


@pytest.mark.parametrize("target", READ_TARGETS)
def test_host_files_cannot_be_read(target: str, tree: Path, neighbour: Path) -> None:
    path = {"neighbour": neighbour, "shadow": Path("/etc/shadow"), "home": Path.home()}[target]
    # The sandbox's own HOME may bear the same name as the user's, and is empty.
    tried = attempts(inside(tree, "./read_host", str(path)).stdout)
    assert successes(tried) == []
    if (target == "shadow" and not ROOT) or (target == "home" and not any(path.iterdir())):
        return
    control = attempts(outside(tree / "read_host", str(path), cwd=tree))
    needs_luck = {"init-root", "init-cwd", "leftover", "second-chroot"}
    assert {name for name, came in control.items() if came != "done"} <= needs_luck


def test_metadata_outside_cannot_be_seen_or_changed(tree: Path, neighbour: Path) -> None:
    before = neighbour.stat()
    tried = attempts(inside(tree, "./touch_host", str(neighbour)).stdout)
    assert successes(tried) == []
    after = neighbour.stat()
    assert (before.st_mode, before.st_mtime_ns, before.st_ctime_ns) == (
        after.st_mode,
        after.st_mtime_ns,
        after.st_ctime_ns,
    )
    control = attempts(outside(tree / "touch_host", str(neighbour)))
    assert {name for name, came in control.items() if came != "done"} <= {"getxattr"}
    assert stat.S_IMODE(neighbour.stat().st_mode) == 0o606


def contents(directory: Path) -> dict[str, tuple[int, bytes]]:
    """Every entry below `directory`, with mode and bytes."""
    return {
        str(path.relative_to(directory)): (path.lstat().st_mode, path.read_bytes() if path.is_file() else b"")
        for path in sorted(directory.rglob("*"))
    }


@pytest.mark.parametrize("target", ["tree", "neighbour", "usr", "etc", "root", "library"])
def test_nothing_of_the_host_can_be_written(target: str, tree: Path, neighbour: Path) -> None:
    (tree / "victim").write_text("untouched")
    (tree / "victim").chmod(0o666)
    tree.chmod(0o777)
    shown, host = {
        "tree": ("/tree", tree),
        "neighbour": (str(neighbour.parent), neighbour.parent),
        "usr": ("/usr", None),
        "etc": ("/etc", None),
        "root": ("/", None),
        "library": ("/lib", None),
    }[target]
    before = contents(tree), contents(neighbour.parent)
    tried = attempts(inside(tree, "./write_host", shown).stdout)
    assert successes(tried) == []
    assert (contents(tree), contents(neighbour.parent)) == before
    if host is None:
        return
    if target == "neighbour":
        neighbour.rename(neighbour.with_name("victim"))
    control = attempts(outside(tree / "write_host", str(host)))
    assert {name for name, came in control.items() if came != "done"} <= {"setxattr", "unnamed"}


@dataclass(frozen=True)
class Listeners:
    """Sockets of the host that must hear nothing."""

    tcp: socket.socket
    datagrams: list[socket.socket]
    arguments: tuple[str, str, str, str]

    def heard(self) -> list[str]:
        """Who was reached since the last call."""
        reached = []
        for listener in self.datagrams:
            with contextlib.suppress(BlockingIOError):
                while True:
                    reached.append(listener.recv(16).decode())
        with contextlib.suppress(BlockingIOError):
            self.tcp.accept()[0].close()
            reached.append("tcp")
        return reached


@pytest.fixture
def listeners(tree: Path, marker: str) -> Iterator[Listeners]:
    """TCP and UDP on 127.0.0.1, a datagram socket on an abstract name, and one on a path inside the tree."""
    path = tree / "ear"
    with contextlib.ExitStack() as stack:
        made = [
            stack.enter_context(socket.socket(family, kind))
            for family, kind in [
                (socket.AF_INET, socket.SOCK_STREAM),
                (socket.AF_INET, socket.SOCK_DGRAM),
                (socket.AF_UNIX, socket.SOCK_DGRAM),
                (socket.AF_UNIX, socket.SOCK_DGRAM),
            ]
        ]
        tcp, udp, abstract, named = made
        tcp.bind(("127.0.0.1", 0))
        tcp.listen()
        udp.bind(("127.0.0.1", 0))
        abstract.bind(b"\0" + marker.encode())
        named.bind(str(path))
        path.chmod(0o777)
        for listener in made:
            listener.settimeout(0)
        ports = str(tcp.getsockname()[1]), str(udp.getsockname()[1])
        yield Listeners(tcp, [udp, abstract, named], (*ports, marker, str(path)))


def test_no_socket_reaches_the_host(tree: Path, listeners: Listeners) -> None:
    tcp, udp, abstract, path = listeners.arguments
    tried = attempts(inside(tree, "./sockets", tcp, udp, abstract, "/tree/ear").stdout)
    assert listeners.heard() == []
    assert successes(tried) == []
    control = attempts(outside(tree / "sockets", tcp, udp, abstract, path))
    held = {"inet-stream", "inet-datagram", "netlink", "unix-stream", "unix-datagram", "tcp", "udp", "abstract", "path"}
    assert {name for name in held if control[name] != "done"} == set()
    assert {"tcp", "udp", "unix"} <= set(listeners.heard())


def test_loopback_stays_inside(tree: Path, listeners: Listeners) -> None:
    # With `loopback` sockets may be had, but 127.0.0.1 and abstract names are the trial's own. A UNIX socket on a path
    # that the sandbox shows can then be reached: an exported tree holds none, and none is put there here.
    tcp, udp, abstract, _ = listeners.arguments
    tried = attempts(inside(tree, "./sockets", tcp, udp, abstract, "/tree/absent", network="loopback").stdout)
    assert listeners.heard() == []
    assert tried["inet-stream"] == "done"
    forbidden = {"inet-raw", "vsock", "packet", "algorithm", "tcp", "abstract", "paired-abstract"}
    assert {name: tried[name] for name in forbidden if tried[name] == "done"} == {}


@pytest.fixture
def sentinel(marker: str) -> Iterator[subprocess.Popen[bytes]]:
    """A process of the host, ours to attack, with a secret in its environment."""
    argv = [sys.executable, "-c", "import sys; sys.stdin.read()", marker]
    with subprocess.Popen(argv, stdin=subprocess.PIPE, env={**os.environ, "SECRET": SECRET}) as process:
        yield process
        process.kill()


def test_host_processes_are_out_of_reach(programs: Path, sentinel: subprocess.Popen[bytes], marker: str) -> None:
    seen = inside(programs, "./processes", "kill-all").stdout.decode()
    assert marker not in seen
    assert "still here" in seen
    assert "processes" in seen
    assert sentinel.poll() is None
    assert marker in outside(programs / "processes").decode()


def test_a_host_process_cannot_be_attacked_by_number(programs: Path, sentinel: subprocess.Popen[bytes]) -> None:
    # Small numbers belong to processes of the sandbox itself.
    for pid in filter(lambda number: number > 100, (sentinel.pid, os.getpid(), os.getppid())):
        done = inside(programs, "./prey", str(pid))
        assert successes(attempts(done.stdout)) == []
    assert sentinel.poll() is None
    control = attempts(outside(programs / "prey", str(sentinel.pid)))
    by_machine = {
        "ptrace-attach",
        "ptrace-seize",
        "vm-read",
        "vm-write",
        "pidfd-getfd",
        "fd-0",
        "mem-read",
        "mem-write",
    }
    assert {name for name, came in control.items() if came != "done"} <= by_machine
    assert sentinel.wait(10) < 0, "the control did not kill it"


def test_init_is_out_of_reach(programs: Path) -> None:
    with Sandbox(programs) as sandbox:
        done = sandbox.run(["./prey", "1"])
        again = sandbox.run(["./prey", "1"])
    for run in (done, again):
        assert run.outcome == "ok", (run.outcome, run.stdout, run.stderr)
        # A signal may be accepted for delivery; what counts is that init and the trial live on.
        assert b"still here" in run.stdout
        assert [line for line in successes(attempts(run.stdout)) if not line.startswith("signal-")] == []


def test_a_trial_cannot_break_its_init(programs: Path) -> None:
    with Sandbox(programs) as sandbox:
        done = sandbox.run(["./break_init"])
        after = sandbox.run(["./identity"])
    assert done.outcome == "ok", (done.outcome, done.stdout, done.stderr)
    assert b"still here" in done.stdout
    assert successes(attempts(done.stdout)) == []
    assert any(entry.startswith("socket(AF_INET)") for entry in done.denied)
    assert after.outcome == "ok"


def properties(output: bytes) -> dict[str, list[str]]:
    """The `name=value` lines of `identity`."""
    found: dict[str, list[str]] = {}
    for line in output.decode().splitlines():
        name, _, value = line.partition("=")
        found.setdefault(name, []).append(value)
    return found


def status_fields(found: dict[str, list[str]]) -> dict[str, str]:
    """The lines of /proc/self/status among them."""
    return {key: value.strip() for key, _, value in (line.partition(":") for line in found["/proc/self/status"])}


def test_identity_carries_no_power(programs: Path) -> None:
    found = properties(inside(programs, "./identity").stdout)
    assert found["uid"] == ["1000 1000 1000"]
    assert found["gid"] == ["1000 1000 1000"]
    assert found["hostname"] == ["nightfleet"]
    assert found["cwd"] == ["/tree"]
    status = status_fields(found)
    assert {status[name] for name in ("CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb")} == {"0" * 16}
    assert (status["NoNewPrivs"], status["Seccomp"], status["Groups"]) == ("1", "2", "")
    for name in ("/proc/self/uid_map", "/proc/self/gid_map"):
        ranges = [list(map(int, line.split())) for line in found[name]]
        assert [row[0] for row in ranges] == [1000]
        assert all(row[2] == 1 for row in ranges)
    assert found["/proc/self/setgroups"] == ["deny"]
    control = properties(outside(programs / "identity"))
    assert control["hostname"] != ["nightfleet"]
    assert status_fields(control)["CapBnd"] != "0" * 16


def test_the_host_sees_no_root(programs: Path, marker: str) -> None:
    owners: set[str] = set()

    def look() -> None:
        gone(lambda: not processes(marker))  # until it is there
        for pid in processes(marker):
            lines = Path(f"/proc/{pid}/status").read_text().splitlines()
            owners.update(word for line in lines if line.startswith(("Uid:", "Gid:")) for word in line.split()[1:])

    watcher = threading.Thread(target=look)
    watcher.start()
    with Sandbox(programs) as sandbox:
        done = sandbox.run(["./ignore_sigterm", marker], timeout_s=2)
    watcher.join()
    assert done.outcome == "timeout"
    assert owners
    assert "0" not in owners
    assert gone(lambda: processes(marker))


REQUIRED = {"CHOSEN", "HOME", "TMPDIR", "NIGHTFLEET_OUT", "PATH"}
# Values that a sandbox may fix, the same for every trial.
NEUTRAL = {
    "LANG",
    "LC_ALL",
    "TZ",
    "USER",
    "LOGNAME",
    "SHELL",
    "TERM",
    "PWD",
    "PYTHONHASHSEED",
    "PYTHONDONTWRITEBYTECODE",
}


def test_environment_and_descriptors_are_clean(
    programs: Path, neighbour: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NIGHTFLEET_TEST_KEY", SECRET)
    monkeypatch.setenv("LD_PRELOAD_CANARY", SECRET)
    descriptor = os.open(neighbour, os.O_RDONLY)
    high = os.dup2(descriptor, 200, inheritable=True)
    os.set_inheritable(descriptor, True)  # noqa: FBT003 -- the system call's own order
    try:
        found = properties(inside(programs, "./identity", env={"CHOSEN": "yes"}).stdout)
        control = properties(outside(programs / "identity", pass_fds=(high,)))
    finally:
        os.close(descriptor)
        os.close(high)
    assert SECRET not in str(found)
    names = {line.partition("=")[0] for line in found["env"]}
    assert names >= REQUIRED
    assert names <= REQUIRED | NEUTRAL
    assert found["fd"] == ["0", "1", "2"]
    assert "signal" not in found, "a signal disposition was inherited"
    assert SECRET in str(control)
    assert "200" in control["fd"]


def test_two_trees_look_the_same(tmp_path: Path, programs: Path) -> None:
    seen = []
    names = ("baseline", "a-candidate-with-another-name")
    for name in names:
        tree = tmp_path / name
        shutil.copytree(programs, tree)
        tree.chmod(0o755)
        seen.append(inside(tree, "./identity", "argument").stdout)
    assert seen[0] == seen[1]
    assert b"candidate" not in seen[1]
    # Outside the two differ by their directory, so the comparison can fail.
    assert len({outside(tmp_path / name / "identity", cwd=tmp_path / name) for name in names}) == 2


def test_a_set_user_id_bit_gives_nothing(tree: Path, open_ground: Path) -> None:
    if not ROOT:
        pytest.skip("only root can make a program of root's that others may run")
    program = tree / "identity"
    program.chmod(0o4755)
    found = properties(inside(tree, "./identity").stdout)
    assert found["uid"] == ["1000 1000 1000"]
    if os.statvfs(open_ground).f_flag & os.ST_NOSUID:
        pytest.skip("no control: the temporary directory is mounted nosuid")
    control = subprocess.run([program], user=65534, capture_output=True, check=True, cwd="/")
    assert properties(control.stdout)["uid"] == ["65534 0 0"]


def test_no_core_is_dumped(programs: Path) -> None:
    tried = attempts(inside(programs, "./core_dump").stdout)
    assert tried == {"raise": tried["raise"], "dumped": "refused EPERM"}
    assert tried["raise"].startswith("refused")
    if not ROOT and resource.getrlimit(resource.RLIMIT_CORE)[1] == 0:
        return
    control = attempts(outside(programs / "core_dump"))
    if ROOT:
        assert control["raise"] == "done"


def burned(programs: Path) -> Completed:
    """A run that hides 0.4 s of CPU."""
    return inside(programs, "./hidden_cpu", "400")


def test_hidden_cpu_is_counted(programs: Path) -> None:
    with Sandbox(programs) as sandbox:
        source = str(sandbox.facts["cpu_source"])
    if not source.startswith("cgroup"):
        pytest.skip(f"cpu_source is {source}: without a control group hidden CPU is judged by wall")
    done = burned(programs)
    assert done.cpu_ns >= 0.8 * 400e6
    assert done.tasks >= 1


def test_hidden_cpu_escapes_a_naive_judge(programs: Path) -> None:
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    outside(programs / "hidden_cpu", "400")
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    assert after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime < 0.2


def spread(output: bytes) -> tuple[set[int], float]:
    """The cores that `affinity` saw, and its CPU seconds for each second of wall."""
    found = properties(output)
    return {int(core) for core in found["cores"][0].split(",") if core}, float(found["speed"][0])


def test_a_pinned_program_cannot_leave_its_core(programs: Path) -> None:
    cores = sorted(os.sched_getaffinity(0))
    if len(cores) < 2:
        pytest.skip("one core: nowhere to escape to")
    used, speed = spread(inside(programs, "./affinity", "500", cores=[cores[1]]).stdout)
    assert used == {cores[1]}
    assert speed < 1.1
    os.sched_setaffinity(0, {cores[1]})
    try:
        used, _ = spread(outside(programs / "affinity", "500"))
    finally:
        os.sched_setaffinity(0, set(cores))
    assert len(used) > 1


NOTES = ("/tmp", "/dev/shm", "/home/nightfleet", "/out", "/var/tmp", "/run", "/run/lock", "/dev", "/tree", "/")  # noqa: S108 -- inside the sandbox


def test_nothing_outlives_a_trial(programs: Path, tmp_path: Path) -> None:
    with Sandbox(programs) as first, Sandbox(programs) as second:
        planted = attempts(first.run(["./persist", "plant", *NOTES]).stdout)
        found = [attempts(sandbox.run(["./persist", "look", *NOTES]).stdout) for sandbox in (first, second)]
    assert {planted[name] for name in ("/tmp", "/dev/shm", "/home/nightfleet", "/out")} == {"done"}  # noqa: S108
    assert [successes(each) for each in found] == [[], []]
    control = tmp_path / "notes"
    control.mkdir()
    try:
        outside(programs / "persist", "plant", str(control))
        kept = attempts(outside(programs / "persist", "look", str(control)))
    finally:
        outside(programs / "persist", "clear")
    assert {name for name, came in kept.items() if came == "done"} >= {str(control), "sysv-memory", "sysv-semaphore"}


def test_a_daemon_dies_with_its_trial(programs: Path, marker: str, tmp_path: Path) -> None:
    with Sandbox(programs) as sandbox:
        done = sandbox.run(["./daemon", marker, "/dev/shm/lived"], timeout_s=20)  # noqa: S108
        assert gone(lambda: processes(marker))
    assert (done.outcome, done.stdout) == ("ok", b"started\n")
    assert done.wall_ns < 10e9, "the trial waited for its daemon"
    assert done.tasks >= 1
    lived = tmp_path / "lived"
    with subprocess.Popen([programs / "daemon", marker, lived], stdout=subprocess.PIPE) as control:
        control.wait(10)
        try:
            assert gone(lambda: not lived.exists()), "the control's daemon did not live"
        finally:
            for pid in processes(marker):
                os.kill(pid, signal.SIGKILL)


IN_A_TERMINAL = """
import sys
from nightfleet.native import Sandbox
with Sandbox(sys.argv[1]) as sandbox:
    done = sandbox.run(["./terminal"])
sys.stderr.buffer.write(done.stdout)
"""


def in_a_terminal(argv: Sequence[str | Path]) -> bytes:
    """The stderr of `argv`, run as the leader of a session that has a terminal."""
    ours, theirs = pty.openpty()
    name = os.ttyname(theirs)

    def take() -> None:
        os.close(os.open(name, os.O_RDWR))  # a session leader without a terminal gets the first that it opens

    try:
        done = subprocess.run(
            argv,
            stdin=theirs,
            stdout=theirs,
            stderr=subprocess.PIPE,
            start_new_session=True,
            preexec_fn=take,
            timeout=60,
            check=False,
        )
    finally:
        os.close(ours)
        os.close(theirs)
    return done.stderr


def test_nothing_can_be_typed_into_a_terminal(programs: Path) -> None:
    tried = attempts(in_a_terminal([sys.executable, "-c", IN_A_TERMINAL, programs]))
    assert successes(tried) == []
    control = attempts(in_a_terminal(["/bin/sh", "-c", f"exec {programs}/terminal 1>&2"]))
    assert control["open-tty"] == "done"
