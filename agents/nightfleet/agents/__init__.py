"""Scouts and workers: who proposes strategies and who turns them into candidates.

It may import `nightfleet.harness` and `nightfleet.native`, and is told everything else in a brief.
"""
