"""What is behind `benchmarks/startup.py`."""
