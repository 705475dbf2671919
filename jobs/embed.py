"""The options of `vidembed embed`, for a cluster:

ray job submit --working-dir . -- python jobs/embed.py …
"""

from vidembed.cli import run_job

if __name__ == "__main__":
    run_job("embed")
