"""The options of `vidembed load`, for a cluster:

ray job submit --working-dir . -- python jobs/load.py …
"""

from vidembed.cli import run_job

if __name__ == "__main__":
    run_job("load")
