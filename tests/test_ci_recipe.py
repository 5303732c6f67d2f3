"""The recipe for CI is what it says: the shell script runs, and the workflow is one."""

import os
import re
import subprocess
from pathlib import Path

import pytest
from ruamel.yaml import YAML
from tiny import Tiny

RECIPE = (Path(__file__).parents[1] / "docs" / "ci.md").read_text(encoding="utf-8")


def block(language: str) -> str:
    found = re.search(rf"^```{language}\n(.*?)^```$", RECIPE, re.MULTILINE | re.DOTALL)
    assert found
    return found[1]


@pytest.mark.parametrize(
    ("code", "verdict", "identical", "lenient", "ends"),
    [
        (0, "promote", "true", "0", 0),
        (1, "reject", "true", "0", 1),
        (1, "reject", "true", "1", 0),
        (1, "incorrect", "true", "1", 1),
        (1, "broken", "null", "1", 1),
        (2, "undecided", "true", "1", 2),
    ],
)
def test_the_shell_recipe_ends_as_the_verdict_says(
    tmp_path: Path, *, code: int, verdict: str, identical: str, lenient: str, ends: int
) -> None:
    tiny = Tiny(tmp_path / "tiny")
    tiny.branch("mine", {"tiny.c": "faster\n"})
    stub, asked = tmp_path / "bin" / "nightfleet", tmp_path / "asked"
    stub.parent.mkdir()
    answer = f'{{"verdict": "{verdict}", "behaviour": {{"identical": {identical}}}}}'
    stub.write_text(f"#!/bin/sh\necho \"$@\" > {asked}\necho '{answer}'\nexit {code}\n")
    stub.chmod(0o755)
    script = tmp_path / "judge.sh"
    script.write_text(block("sh"))
    path = f"{stub.parent}{os.pathsep}{os.environ['PATH']}"
    run = subprocess.run(
        ["sh", str(script), "main", "mine"],
        cwd=tiny.root,
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "PATH": path, "BEHAVIOUR_ONLY": lenient},
    )
    if lenient == "1" and code == 1 and "jq" in run.stderr:
        pytest.skip("no jq here")
    assert run.returncode == ends, run.stderr
    assert verdict in run.stdout
    assert asked.read_text().split() == ["verify", tiny.git("rev-parse", "main").strip(), "mine", "--json"]


def test_the_workflow_can_be_read_and_runs_foreign_code_with_nothing_to_steal() -> None:
    workflow = YAML(typ="safe").load(block("yaml"))
    assert workflow["on"] == {"pull_request": None}
    assert workflow["permissions"] == {"contents": "read"}
    (job,) = workflow["jobs"].values()
    assert any("nightfleet verify" in step.get("run", "") for step in job["steps"])
    checkouts = [step for step in job["steps"] if step.get("uses", "").startswith("actions/checkout")]
    assert all(step["with"]["persist-credentials"] is False for step in checkouts)
    assert "${{" not in "".join(step.get("run", "") for step in job["steps"])
