"""One module for each family: `make()` returns arrays by file name and key.

They import the reference implementations, which the project's own environment does not have.
"""
