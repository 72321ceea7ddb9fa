"""Quality gates: who is dropped before and after answering, and why. One file, one gate.

    length       too short, too long
    duplicates   the same question again
    language     another language than the one wanted
    leaks        what the held-out set, or a benchmark, holds already or nearly
    near         nearly the same question again
    balance      more of one category than its share
    pass_rate    more easy or hard questions than their share
    consensus    answers to one question that differ

`config` says how strict they are, `filtered` what goes in and comes out, `similar` finds sets that
are alike, `benchmarks` reads files for `leaks`. All are pure, and keep the order given.
"""
