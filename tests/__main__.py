"""All tests, in two processes at once: `python -m tests [options of pytest]`.

Those that run jobs on Ray wait much and are shown as they run; the others compute, and are shown
when they are done. They must not share a process anyway: Ray opens files and starts children when
it likes, which some of the others count.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile

_NOTHING_CHOSEN = 5
# Ray's workers are nice by 15 else, and wait while the others compute, past what Ray itself waits.
_ALIKE = {"RAY_worker_niceness": "0"}


def main() -> int:
    command = [sys.executable, "-m", "pytest", *sys.argv[1:]]
    with tempfile.TemporaryFile() as log:
        others = subprocess.Popen(
            [*command, "-m", "not ray", "-p", "no:cacheprovider"],
            stdout=log,
            stderr=subprocess.STDOUT,
        )
        try:
            jobs = subprocess.run(
                [*command, "-m", "ray"], env=os.environ | _ALIKE, check=False
            ).returncode
            code = others.wait()
        except BaseException:
            others.kill()
            others.wait()
            raise
        log.seek(0)
        sys.stdout.flush()
        sys.stdout.buffer.write(log.read())
    found = {jobs, code} - {_NOTHING_CHOSEN}
    return max(found, default=_NOTHING_CHOSEN)


if __name__ == "__main__":
    sys.exit(main())
