"""Things are broken while the real command works on real servers, and what it promises is counted.

python -m tests.chaos driver --times 20 --seed 1
"""
