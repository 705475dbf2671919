"""The options of `vidembed refresh`, for a cluster:

ray job submit --working-dir . -- python jobs/refresh.py …
"""

from vidembed.cli import run_job

if __name__ == "__main__":
    run_job("refresh")
