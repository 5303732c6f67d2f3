"""The verdict of a report, from its gates and raw pairs, and not from what it says of itself."""

from collections.abc import Mapping
from typing import Any

from nightfleet.harness.audit.papers import ContradictionError, gate_of, hold_equal
from nightfleet.harness.evidence import Evidence, recompute

ACCEPTED = ("promote", "simplify")
# What a gate may answer when it says no; speed answers with its decision besides.
ANSWERS: Mapping[str, tuple[str, ...]] = {
    "scope": ("out_of_scope",),
    "build": ("broken",),
    "smoke": ("broken", "incorrect"),
    "behaviour": ("broken", "incorrect"),
    "tests": ("incorrect",),
    "limits": ("reject",),
    "speed": ("broken", "incorrect"),
    "extraordinary": ("broken", "incorrect", "suspicious"),
}
# Without these nothing is accepted.
NEEDED = ("scope", "build", "smoke", "behaviour", "speed")
NOT_REACHED = "not reached"
CUT_SHORT = "cut short: "
INTERRUPTED = f"{CUT_SHORT}interrupted"


def check_rules(content: Mapping[str, Any]) -> str:
    """The rules of the verdict on speed are those of the program."""
    speed, subject = content["speed"], content["subject"]
    if speed is None:
        return "no pair was timed"
    rules, contract = speed["rules"], subject["contract"]
    limits = contract["thresholds"]
    expected = {
        "workloads": [one["name"] for one in contract["workloads"]],
        "over": contract["metric"]["over"],
        "promote": limits["promote_ratio"],
        "incremental": limits["incremental_ratio"],
        "extraordinary": limits["extraordinary_ratio"],
        "alpha": subject["alpha"],
        "purpose": subject["purpose"],
    }
    for name, value in expected.items():
        if rules[name] != value:
            raise ContradictionError(f"the verdict went by {name} {rules[name]}; the program says {value}")
    if (rules["quantity"] == "memory") != (contract["metric"]["kind"] == "memory"):
        raise ContradictionError(f"the verdict went by {rules['quantity']}; the metric is {contract['metric']['kind']}")
    if contract["clock"] != "auto" and rules["quantity"] not in ("memory", contract["clock"]):
        raise ContradictionError(f"the verdict went by {rules['quantity']}; the program says clock {contract['clock']}")
    _check_guards(rules, contract["guards"], speed["calibration"])
    return f"thresholds, guards and error rate {rules['alpha']} are the program's; the clock is {rules['quantity']}"


def _check_guards(rules: Mapping[str, Any], guards: Mapping[str, Any], calibration: Mapping[str, Any]) -> None:
    held = {guard["quantity"]: guard["limit"] for guard in rules["guards"]}
    measured = {quantity for by_quantity in calibration["noise"].values() for quantity in by_quantity}
    for quantity in ("wall", "cpu", "memory"):
        limit = guards[f"{quantity}_ratio"]
        if quantity in held and held[quantity] != limit:
            raise ContradictionError(f"guard {quantity} was held to {held[quantity]}; the program says {limit}")
        if quantity not in held and quantity in measured:
            raise ContradictionError(f"guard {quantity} was measured and not held; the program says {limit}")


def check_pairs(content: Mapping[str, Any]) -> str:
    """The decision on speed follows from the raw pairs, and the figures are those of the decision."""
    verification, speed = content["verification"], content["speed"]
    if speed is None:
        hold_equal("gain", verification["gain"], None)
        hold_equal("pairs", verification["pairs"], 0)
        hold_equal("extraordinary", verification["extraordinary"], found=False)
        return "no pair was timed"
    try:
        evidence = recompute(speed)
    except ValueError as error:
        raise ContradictionError(str(error)) from None
    aside = gate_of(content, "speed")["facts"].get("confirmation", [])
    hold_equal("pairs", verification["pairs"], len(evidence.pairs) + len(evidence.confirmation) + len(aside))
    hold_equal("extraordinary", verification["extraordinary"], evidence.decision.extraordinary)
    _check_gain(verification["gain"], evidence)
    return f"{verification['pairs']} raw pairs give {evidence.decision.step.value!r} again: {evidence.decision.reason}"


def _check_gain(gain: Mapping[str, Any] | None, evidence: Evidence) -> None:
    decision = evidence.decision
    if decision.gain is None:
        hold_equal("gain", gain, None)
        return
    expected = {
        "estimate": decision.gain,
        "low": decision.gain if decision.low is None else decision.low,
        "high": decision.gain if decision.high is None else decision.high,
        "clock": evidence.rules.quantity,
    }
    if gain is None:
        raise ContradictionError(f"it says no gain; the pairs give {decision.gain:+.4f}")
    for name, value in expected.items():
        hold_equal(f"gain.{name}", gain[name], value)


def check_verdict(content: Mapping[str, Any]) -> str:
    """The verdict and its reason are what the gates say, in their order."""
    verification = content["verification"]
    verdict, reason = _ending(content)
    hold_equal("verdict", verification["verdict"], verdict)
    hold_equal("reason", verification["reason"], reason)
    return f"{verdict!r} is what the gates say"


def _ending(content: Mapping[str, Any]) -> tuple[str, str]:
    """What the gates amount to."""
    said, gates = content["verification"], content["verification"]["gates"]
    names = [gate["name"] for gate in gates]
    if len(set(names)) < len(names) or not set(ANSWERS) <= set(names):
        raise ContradictionError(
            f"the gates are {', '.join(map(str, names))}; each of {', '.join(ANSWERS)} stands there once"
        )
    for place, gate in enumerate(gates):
        if gate["passed"] is not None and type(gate["passed"]) is not bool:
            raise ContradictionError(f"gate {gate['name']} has passed: {gate['passed']!r}")
        if gate["passed"] is False or _cut_short(gate):
            later = [
                one["name"] for one in gates[place + 1 :] if one["reason"] != NOT_REACHED or one["passed"] is not None
            ]
            if later:
                raise ContradictionError(f"gate {gate['name']} ended it, and yet {later[0]} says something")
            return _cut(gate, content) if gate["passed"] is None else _no(gate, content)
        if gate["reason"] == NOT_REACHED and said["reason"] == _interrupted(content):
            # Between two gates.
            return "undecided", said["reason"]
        if gate["reason"] == NOT_REACHED:
            raise ContradictionError(f"gate {gate['name']} was not reached, and no gate before it ended it")
    return _yes(content)


def _cut_short(gate: Mapping[str, Any]) -> bool:
    return gate["passed"] is None and str(gate["reason"]).startswith(CUT_SHORT)


def _cut(gate: Mapping[str, Any], content: Mapping[str, Any]) -> tuple[str, str]:
    if gate["reason"] == INTERRUPTED:
        return "undecided", _interrupted(content)
    reason = str(content["verification"]["reason"])
    hold_equal(f"the reason of gate {gate['name']}", gate["reason"], CUT_SHORT + (reason.splitlines() or [""])[0])
    return "undecided", reason


def _interrupted(content: Mapping[str, Any]) -> str:
    return f"interrupted after {content['verification']['pairs']} pairs"


def _no(gate: Mapping[str, Any], content: Mapping[str, Any]) -> tuple[str, str]:
    verdict = content["verification"]["verdict"]
    answers = ANSWERS.get(gate["name"])
    if gate["name"] == "speed" and verdict not in ("broken", "incorrect"):
        decision = content["speed"]["decision"]
        hold_equal("the reason of gate speed", gate["reason"], decision["reason"])
        answers = (decision["step"],)
    relinked = None if content["speed"] is None else content["speed"]["relinked_decision"]
    if gate["name"] == "extraordinary" and verdict == "suspicious" and relinked is not None:
        hold_equal("the reason of gate extraordinary", gate["reason"], relinked["reason"])
    # A gate that this version does not know may say no, and never yes.
    allowed = verdict in answers if answers is not None else verdict not in ACCEPTED
    if not allowed or verdict in ACCEPTED:
        words = " or ".join(map(repr, answers or ("no",)))
        raise ContradictionError(f"verdict: it says {verdict!r}; gate {gate['name']} ended it, which gives {words}")
    return verdict, gate["reason"]


def _yes(content: Mapping[str, Any]) -> tuple[str, str]:
    for name in NEEDED:
        if gate_of(content, name)["passed"] is not True:
            raise ContradictionError(f"no gate said no, but {name} did not pass either")
    decision, relinked = content["speed"]["decision"], content["speed"]["relinked_decision"]
    purpose = content["subject"]["purpose"]
    verdict = "simplify" if purpose == "simplify" else "promote"
    if decision["step"] != verdict:
        raise ContradictionError(f"every gate passed, and yet the pairs give {decision['step']!r}")
    if relinked is not None and relinked["step"] != "promote":
        raise ContradictionError(f"every gate passed, and yet the pairs of relinked builds give {relinked['step']!r}")
    return verdict, decision["reason"]
