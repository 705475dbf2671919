"""What a process is, for people, by its command line: Ray renames its workers as they go."""

from __future__ import annotations

_NAMES = (
    ("gcs_server", "Ray: gcs_server"),
    ("raylet/raylet", "Ray: raylet"),
    ("log_monitor.py", "Ray: log monitor"),
    ("autoscaler/_private/monitor.py", "Ray: autoscaler's monitor"),
    ("dashboard/dashboard.py", "Ray: API server"),
    ("DashboardAgent", "Ray: dashboard agent"),
    ("dashboard/agent.py", "Ray: dashboard agent"),
    ("RuntimeEnvAgent", "Ray: runtime environment agent"),
    ("runtime_env/agent", "Ray: runtime environment agent"),
    ("_StatsActor", "Ray Data: statistics"),
    ("_AutoscalingCoordinatorActor", "Ray Data: autoscaling coordinator"),
    ("ActorLocationTracker", "Ray Data: actor locations"),
    ("MonitorState", "worker: monitor"),
    ("Decode)", "worker: decode"),
    ("Map(decode)", "worker: decode"),
    ("Encode", "worker: encode"),
    ("ray::Write", "worker: write"),
    ("vidembed.decode.child", "decode child"),
    ("ray::IDLE", "worker: spare"),
    ("default_worker.py", "worker: spare"),
)
_SPARE, OTHER = "worker: spare", "other"
# What a process is at first, before it is what it is for: the raylet's children are its copies.
_AT_FIRST = (_SPARE, OTHER, "Ray: raylet", "")


def of(line: str, before: str) -> str:
    """Of a command line, where the process was `before`: the last that is not idleness."""
    found = next((name for word, name in _NAMES if word in line), OTHER if line else "")
    return found if found and (found not in (_SPARE, OTHER) or before in _AT_FIRST) else before
