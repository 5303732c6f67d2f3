"""The night: program, ledger, desk, git, promotion, memory, budget, and the commands that people type.

The topmost room: it may import `nightfleet.agents`, `nightfleet.harness` and `nightfleet.native`; none of them may
import it.
"""
