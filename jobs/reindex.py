"""The options of `vidembed reindex`, for a cluster:

ray job submit --working-dir . -- python jobs/reindex.py …
"""

from vidembed.cli import run_job

if __name__ == "__main__":
    run_job("reindex")
