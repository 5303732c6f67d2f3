"""What a bundle says about itself: how to check it with Python, NumPy and xxhash, and nothing of nightfleet."""

README = """\
A bundle of evidence for one verdict of nightfleet: may a change be merged, is it the same and is it faster?

report.json    what was found: gates, verdict, every raw pair, every coin, the salts; "root" is a SHA-256 over all of it
digests-*.npy  for each workload and side: rows of case number and XXH3-128 of its record (high, low), by NumPy
program.md     the contract that was judged by
trees.txt      which two trees were compared
change.patch   what the candidate changes, if it was in scope

`nightfleet audit verify BUNDLE` checks everything that can be checked here, the verdict on speed included. Without
nightfleet, unpack this, change into its folder and run the following with Python 3, NumPy and xxhash. It stops at the
first thing that does not hold:

    import hashlib, hmac, json, struct
    import numpy as np, xxhash

    def canonical(value):
        return json.dumps(value, sort_keys=True, separators=(",", ":")).encode("ascii")

    with open("report.json", encoding="utf-8") as file:
        report = json.load(file)
    content = {key: value for key, value in report.items() if key != "root"}
    assert hashlib.sha256(b"nightfleet report 3\\n" + canonical(content)).hexdigest() == report["root"], "root"
    tables = {}
    for name, about in report["files"].items():
        table = np.load(name, allow_pickle=False)
        metadata = canonical({key: about[key] for key in ("report", "side", "workload")})
        data = struct.pack("<Q", len(metadata)) + metadata + table.tobytes()
        assert hashlib.sha256(b"nightfleet digests 1\\n" + data).hexdigest() == about["root"], name
        tables[about["workload"], about["side"]] = table
    cases = differing = 0
    for workload in {workload for workload, _ in tables}:
        left, right = tables[workload, "baseline"], tables[workload, "candidate"]
        assert (left["case"] == right["case"]).all() and (np.diff(left["case"]) > 0).all(), workload
        cases += len(left)
        differing += int(((left["high"] != right["high"]) | (left["low"] != right["low"])).sum())
    said, subject = report["verification"], report["subject"]
    assert said["behaviour"]["cases"] == cases, "cases"
    assert said["behaviour"]["diverged"] <= differing, "diverged"
    assert not said["behaviour"]["identical"] or differing == 0, "identical"
    salt = bytes.fromhex(subject["salt"])
    assert hashlib.sha256(salt).hexdigest() == subject["commitment"], "salt"
    with open("program.md", "rb") as file:
        assert hashlib.sha256(file.read()).hexdigest() == subject["program"], "program"
    seed, = struct.unpack("<Q", hmac.digest(salt, b"hash\\0", "sha256")[:8])
    exact = subject["contract"]["behaviour"] == {"filter": None, "form": "exact", "ignore": None}
    for shown in report["divergences"] if exact else ():
        record, table = shown["baseline"], tables.get((shown["workload"], "baseline"))
        if record is None or table is None or shown["case"] not in table["case"]:
            continue  # none was given, or it is a practice case
        text, row = record["text"].encode(), table[np.searchsorted(table["case"], shown["case"])]
        if len(text) == record["size"]:  # else it is shown cut, or with escapes
            digest = xxhash.xxh3_128_intdigest(text, seed)
            assert digest == (int(row["high"]) << 64) + int(row["low"]), shown
    print(said["verdict"], "|", said["reason"])
    print(cases, "cases,", differing, "with different records; root", report["root"])

What nobody can see from here is whether the digests and times came from runs of these two programs. Whoever has the two
trees, the toolchain and this bundle can run a sample again: `nightfleet audit rerun BUNDLE`.
"""
