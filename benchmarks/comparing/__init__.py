"""The comparison behind `benchmarks/peers.py`."""
