"""Agents without a model: what a patient person with a profiler and a book of tricks would try, one thing at a time.

A scout makes changes out of three kinds of source: rules (`rules/*.yaml`, structural rewrites by ast-grep), sweeps of
numeric constants, and settings (build profiles, flags, a language's own switches); it ranks them and proposes them with
the exact edits. A worker carries the edits out. No network, no key, and the same seed gives the same night.
"""
