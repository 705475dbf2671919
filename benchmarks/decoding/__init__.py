"""The measurement behind `benchmarks/decode.py`; runs in the environment that it makes."""
