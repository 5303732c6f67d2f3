"""The judge: arena, workspaces, behaviour, speed, score, verdict, evidence.

It knows no agents and no night, so that it can judge two commits on its own; it may import `nightfleet.native`.
"""
