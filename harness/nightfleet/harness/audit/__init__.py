"""A verdict held against its evidence, by other means than those that made it.

`papers`, `draws`, `account`, `sums` and `examination` check a report without `nightfleet.native`: Python's hashlib and
xxhash, NumPy, and the pure statistics. `contract` holds its program.md against what it went by, by the judge's own
reader. `shelf` finds reports, `bundle` packs one up, `contrast` tells two apart, and `retrial` runs cases again, which
does need the sandbox.
"""
