"""Quality gates: who is dropped before and after answering, and why. One file, one gate.

    length       too short, too long
    duplicates   the same question again
    language     another language than the one wanted
    leaks        what the held-out set, or a benchmark, holds already or nearly
    near         nearly the same question again
    balance      more of one category than its share
    agreement    answers to one question that differ

`config` says how strict they are. All are pure: a list in, what is kept and what is dropped out, in
the order given. They work on anything with a prompt and terms, so that questions are sifted before
models answer them.
"""
