"""The options of `vidembed evaluate`, for a cluster:

ray job submit --working-dir . -- python jobs/evaluate.py …
"""

from vidembed.cli import run_job

if __name__ == "__main__":
    run_job("evaluate")
