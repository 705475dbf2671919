"""`ray job submit --working-dir . -- python jobs/evaluate.py …`: the options of `vidembed evaluate`."""

from vidembed.cli import run_job

if __name__ == "__main__":
    run_job("evaluate")
