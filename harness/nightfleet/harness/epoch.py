"""What makes measured figures comparable: the part of an arena after whose change everything is measured anew."""

import hashlib
import json

from nightfleet.harness.arena import Arena


def epoch_digest(arena: Arena) -> str:
    """SHA-256 over what makes measured figures comparable: all of the arena but thresholds, guards and scope."""
    parts = (arena.build, arena.setup, arena.behaviour, arena.metric, arena.clock, arena.cores, arena.read, arena.data)
    content = json.dumps([*map(repr, parts), [repr(one) for one in arena.workloads], arena.limits.memory_bytes])
    return hashlib.sha256(b"nightfleet epoch 1\n" + content.encode()).hexdigest()
