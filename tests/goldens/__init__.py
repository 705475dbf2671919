"""Vectors that the reference implementations gave, and what they were made from.

`oracles/` runs in an environment of its own (`oracle_env.sh`); the tests read only what it left.
"""
