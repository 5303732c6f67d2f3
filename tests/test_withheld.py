"""A kernel that withholds something: made with the kernel's own means, in namespaces of the test's own."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from nightfleet.native import give_tree

# Its own user namespace, in which it is root; then what a container would do.
UNSHARE = ["unshare", "--user", "--map-root-user", "--mount", "--", "/bin/sh", "-c"]
REPORT = "import json; from nightfleet.native import probe; print(json.dumps(probe()))"


def within(script: str, body: str) -> subprocess.CompletedProcess[str]:
    """Run Python within a namespace that `script` has prepared."""
    environment = {**os.environ, "BODY": body, "PYTHON": sys.executable}
    command = [*UNSHARE, f'{script} && exec "$PYTHON" -c "$BODY"']
    return subprocess.run(command, env=environment, capture_output=True, text=True, check=False)


@pytest.fixture(autouse=True)
def _namespaces_can_be_made() -> None:
    if shutil.which("unshare") is None or subprocess.run([*UNSHARE, "true"], check=False).returncode:
        pytest.skip("unshare cannot make a user namespace here")


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    path = tmp_path / "tree"
    path.mkdir()
    give_tree(path)
    return path


def test_no_user_namespaces_is_below_the_minimum_and_says_what_to_do(tree: Path) -> None:
    none = "echo 0 > /proc/sys/user/max_user_namespaces"
    probed = within(none, REPORT)
    if "Permission denied" in probed.stderr:
        pytest.skip("this kernel lets nobody lower the number of namespaces")
    found = json.loads(probed.stdout)
    assert found["kernel"]["user namespace"].startswith("no: ")
    assert "user.max_user_namespaces" in found["below_minimum"]
    assert found["promises"] == {}
    refused = within(none, f"from nightfleet.native import Sandbox; Sandbox({str(tree)!r})")
    assert refused.returncode == 1
    assert "MachineError: the kernel withheld what the sandbox needs: creating a user namespace" in refused.stderr


def test_only_an_explicit_word_goes_past_the_minimum(tree: Path) -> None:
    body = f"""
from nightfleet.native import Sandbox
with Sandbox({str(tree)!r}, unsafe_no_sandbox=True) as s:
    print(s.facts["isolation"], s.run(["/bin/echo", "ran"]).stdout)
"""
    done = within("echo 0 > /proc/sys/user/max_user_namespaces", body)
    if "Permission denied" in done.stderr:
        pytest.skip("this kernel lets nobody lower the number of namespaces")
    assert done.stdout == "lost: unsafe_no_sandbox was asked for b'ran\\n'\n"


def test_a_masked_proc_is_lost_and_never_the_hosts(tree: Path) -> None:
    # What containers do: something over a part of /proc, so that no new one may be mounted.
    body = f"""
from nightfleet.native import Sandbox
with Sandbox({str(tree)!r}) as s:
    print(s.facts["/proc"])
    print(s.run(["/bin/ls", "/proc"]).stdout)
    print(s.facts["user"])
"""
    done = within("mount -t tmpfs none /proc/sys", body)
    if done.returncode and "mount" in done.stderr:
        pytest.skip("nothing can be mounted over /proc here")
    lines = done.stdout.splitlines()
    assert lines[0].startswith("lost: this container forbids mounting /proc"), done
    assert lines[1] == "b''"
    assert "maps no other" in lines[2]
