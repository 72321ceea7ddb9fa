"""Quality gates: who is dropped before and after answering, and why. One file, one gate.

All are pure, and keep the order given. `filtered` says what goes in and comes out.
"""
