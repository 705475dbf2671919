"""`ray job submit --working-dir . -- python jobs/load.py …`: the options of `vidembed load`."""

from vidembed.cli import run_job

if __name__ == "__main__":
    run_job("load")
