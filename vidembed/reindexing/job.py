"""The page that one reads: look, build, verify, point the alias, drop what is too old.

Readers know the alias alone. Until it points to a new version, whatever happens to this job costs
them nothing; a later call takes away what an earlier one has left half done.
"""

from __future__ import annotations

import datetime
import json
import time
from contextlib import ExitStack, suppress
from dataclasses import asdict, dataclass, field, replace
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from vidembed import schema, sources
from vidembed.errors import BusyError, ConfigError, RefusedError, RunError
from vidembed.reindexing.gate import Captions, Gate
from vidembed.reindexing.verify import recall, wait_for_index
from vidembed.store.bulk import BulkOptions, bulk_load
from vidembed.store.bulk_files import Stage
from vidembed.store.lease import PACE
from vidembed.store.ledger import Ledger
from vidembed.store.merged import Merged
from vidembed.store.milvus import Collection
from vidembed.store.milvus_calls import MilvusAwayError, is_lite
from vidembed.store.projection import Projection, collection_spec
from vidembed.store.run import Run
from vidembed.store.versions import READY, WITHDRAWN, Version, Versions, holder, new_name

if TYPE_CHECKING:
    from collections.abc import Callable

    from vidembed.config import ReindexConfig
    from vidembed.store.milvus import CollectionSpec

# A reader that has just asked which collection the alias means may still ask that one.
_GRACE_S = 10.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Reindexed:
    """What was done. action: `built`, `finished` (what an earlier call had built), `updated`,
    `unchanged`, `withdrawn` (nothing: these contents were rolled back), or `planned`.

    live, before: the version behind the alias now, and the one before. rows: of the live version;
    rows_before: of the one before. recall: recall@10 of its index. dropped: older versions that are
    no more.
    """

    action: str
    live: str | None
    before: str | None
    rows: int
    rows_before: int
    encoder: str
    fingerprint: str
    recall: float | None = None
    gate: Gate | None = None
    dropped: list[str] = field(default_factory=list)
    other_encoder: bool = False
    seconds: float = 0.0


def reindex(config: ReindexConfig, say: Callable[[str], None] = lambda sentence: None) -> Reindexed:
    """Build a version from the runs, or bring the live one up to date, and verify it.

    Raises ConfigError or RunMismatchError where nothing is begun; RunError where the new version
    does not hold what it should, or finds less than it should: the alias then stays where it is.
    """
    started = time.monotonic()
    merged = Merged.of([Run.open(uri) for uri in config.runs])
    versions = Versions(config.milvus, config.alias, config.milvus_patience)
    try:
        done = _Reindex(config, merged, versions, say).done()
        return replace(done, seconds=round(time.monotonic() - started, 3))
    finally:
        versions.close()


def rollback(config: ReindexConfig) -> tuple[str, str]:
    """Point the alias to the version before the live one; returns both, the live one first.

    The version that was live stays, and is not put back by a later call with the same contents.
    Raises ConfigError where there is none to go back to.
    """
    versions = Versions(config.milvus, config.alias)
    try:
        live = versions.live()
        every = versions.every()
        earlier = [v for v in every if live and v.state == READY and v.name < live]
        if live is None or not earlier:
            raise ConfigError(
                f"alias {config.alias!r} in {config.milvus} has no earlier version to go back to"
            )
        back = earlier[-1]
        _check_rows(config.milvus, back)
        if config.dry_run:
            return back.name, live
        for version in every:
            if version.name == live:
                versions.note(replace(version, state=WITHDRAWN))
        versions.point(back.name)
        return back.name, live
    finally:
        versions.close()


def status(config: ReindexConfig) -> tuple[str | None, list[Version]]:
    """The version that is live, and all there are, the oldest first."""
    versions = Versions(config.milvus, config.alias)
    try:
        return versions.live(), versions.every()
    finally:
        versions.close()


def _check_rows(uri: str, version: Version) -> None:
    """Load a version, and raise RunError where it has not all its rows."""
    collection = Collection(uri, version.name)
    try:
        if (rows := collection.count()) != version.rows:
            raise RunError(f"{version.name} has {rows:,} rows and should have {version.rows:,}")
    finally:
        collection.close()


class _Reindex:
    def __init__(
        self,
        config: ReindexConfig,
        merged: Merged,
        versions: Versions,
        say: Callable[[str], None],
    ) -> None:
        self._config, self._merged, self._versions, self._say = config, merged, versions, say
        self._captions: Captions | None = None
        self._before = versions.live()
        self._every = versions.every()
        spec = self._spec(config.alias)
        identity = merged.identity
        self._wanted = Version(
            name=new_name(config.alias),
            state="building",
            made=datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
            encoder=str(identity["encoder"]),
            fingerprint=merged.fingerprint,
            content=merged.content(),
            layout=_layout(spec),
            runs=tuple(merged.uris),
            holder=holder(),
        )

    def _spec(self, name: str) -> CollectionSpec:
        schemas = [self._merged.schema_of(part) for part in self._merged.parts()[:1]]
        if self._config.partition_key or self._config.scalar_index:
            schemas = [self._merged.schema_of(part) for part in self._merged.parts()]
        metadata = pa.unify_schemas(
            [schema.metadata_of(each) for each in schemas], promote_options="permissive"
        )
        return collection_spec(self._merged, self._config, name, metadata)

    def done(self) -> Reindexed:
        current = next((v for v in self._every if v.name == self._before), None)
        like = [v for v in self._every if self._is_wanted(v)]
        if not self._config.force:
            if current in like and current is not None and not current.updating:
                return self._said("unchanged", current)
            later = [v for v in like if self._before is None or v.name > self._before]
            if later and later[-1].state == WITHDRAWN:
                return self._said("withdrawn", current)
            if later and later[-1].state == READY and not self._config.dry_run:
                return self._finish(later[-1])
        if self._config.gate_queries is not None:
            # Before anything is built: captions that cannot be read must not cost a build.
            self._captions = Captions(self._config, self._merged)
        if self._config.dry_run:
            return self._said("planned", current)
        self._clean()
        if self._config.incremental and current is not None:
            reason = self._why_not_in_place(current)
            if reason is None:
                return self._update(current)
            self._say(f"{reason}: a new version is built")
        return self._build()

    def _is_wanted(self, version: Version) -> bool:
        wanted = self._wanted
        return (version.content, version.layout, version.fingerprint) == (
            wanted.content, wanted.layout, wanted.fingerprint,
        )  # fmt: skip

    def _why_not_in_place(self, current: Version) -> str | None:
        if current.fingerprint != self._wanted.fingerprint:
            return f"the live version is of {current.encoder} ({current.fingerprint})"
        if current.layout != self._wanted.layout:
            return "the live version has another index or other fields"
        return None

    def _clean(self) -> None:
        """Take away what an earlier call has left half done."""
        for version in self._versions.left_behind(self._say):
            if version.name == self._before:
                # Some of it is newer than the rest; what it holds is known again after this call.
                self._versions.note(replace(version, updating=False, content=""))
                continue
            self._say(f"{version.name} was left half built: it is dropped")
            self._drop(version.name)

    def _build(self) -> Reindexed:
        wanted = self._wanted
        self._say(f"building {wanted.name} from {', '.join(wanted.runs)}")
        try:
            with ExitStack() as stack:
                self._fill(stack)
                built = self._verified(wanted)
        except MilvusAwayError:
            # What is half built is dropped by the next call: it cannot be now.
            raise
        except (RunError, ConfigError, KeyboardInterrupt):
            with suppress(RunError):
                self._drop(wanted.name)
            raise
        self._versions.note(built[0])
        self._versions.point(wanted.name)
        return replace(self._after("built", built[0]), recall=built[1], gate=built[2])

    def _fill(self, stack: ExitStack) -> None:
        name, uri = self._wanted.name, self._config.milvus
        spec = self._spec(name)

        def begun() -> None:
            self._versions.note(self._wanted)
            stack.enter_context(self._versions.kept_alive(name))
            self._versions.alone(name)

        if self._config.bulk and self._config.stage:
            options = BulkOptions(
                stage=self._config.stage,
                file_bytes=self._config.bulk_megabytes << 20,
                patience_s=self._config.milvus_patience,
            )
            bulk_load(self._merged, uri, spec, options, self._say, begun)
            return
        self._versions.begin(self._wanted, spec)
        begun()
        projection = Projection.begin(self._merged, uri, spec)
        projection.collection.patient(self._config.milvus_patience)
        try:
            projection.catch_up()
            projection.reconcile()
        finally:
            projection.close()

    def _verified(self, version: Version) -> tuple[Version, float, Gate | None]:
        """The version as it is when all is right. Raises RunError where it is not."""
        collection = Collection(
            self._config.milvus, version.name, patience_s=self._config.milvus_patience
        )
        try:
            rows = self._merged.count()
            if (there := collection.count()) != rows:
                raise RunError(
                    f"{version.name} has {there:,} rows, and the runs have {rows:,}: "
                    + ("--incremental cannot mend that; leave it out" if version.rows else
                       "were the runs written to meanwhile? Repeat the call")
                )  # fmt: skip
            wait_for_index(
                collection,
                self._config.milvus_patience,
                self._say,
                unread=version.name != self._before,
            )
            metric = self._config.metric or str(self._merged.record["metric"])
            found = recall(self._merged, collection, metric, self._config.recall_sample)
        finally:
            collection.close()
        if found < self._config.min_recall:
            raise RefusedError(
                f"the index of {version.name} finds {found:.3f} of what exact search finds, less "
                f"than --min-recall {self._config.min_recall:g}: choose other --index-params, "
                f"another --index, or a lower bound. The alias stays where it is",
                self._found(rows, found, None),
            )
        passed = self._gate(version)
        if passed is not None and self._is_worse(passed):
            raise RefusedError(
                f"R@10 of {self._config.gate_queries} is {passed.now:.3f} with {version.name} and "
                f"{passed.before:.3f} with {self._before}: more than --gate-margin "
                f"{self._config.gate_margin:g} lower. The alias stays where it is",
                self._found(rows, found, passed),
            )
        return replace(version, state=READY, rows=rows), found, passed

    def _gate(self, version: Version) -> Gate | None:
        config = self._config
        if self._captions is None:
            return None
        before = None if self._before == version.name else self._before
        return self._captions.gate(config.milvus, before, version.name, config.weights)

    def _found(self, rows: int, recall: float, gate: Gate | None) -> dict[str, Any]:
        before = next((v.rows for v in self._every if v.name == self._before), 0)
        return {"live": self._before, "rows": rows, "rows_before": before, "recall": recall,
                "gate": asdict(gate) if gate else None}  # fmt: skip

    def _is_worse(self, gate: Gate) -> bool:
        return gate.before is not None and gate.now < gate.before - self._config.gate_margin

    def _finish(self, version: Version) -> Reindexed:
        """Point to a version that an earlier call has built and verified."""
        _check_rows(self._config.milvus, version)
        self._versions.point(version.name)
        return self._after("finished", version)

    def _update(self, current: Version) -> Reindexed:
        spec = self._spec(current.name)
        marked = replace(current, updating=True, holder=holder())
        self._versions.note(marked)
        with self._versions.kept_alive(current.name):
            # Two that begin at once both note themselves; the later note stays.
            time.sleep(PACE.settle_s)
            if self._versions.about(current.name).holder != marked.holder:
                raise BusyError(f"{current.name} is being updated by another job: wait for it")
            projection = Projection.begin(self._merged, self._config.milvus, spec)
            projection.collection.patient(self._config.milvus_patience)
            try:
                projection.catch_up()
                projection.resend_removed()
                projection.collection.delete(self._merged.shadowed().to_pylist())
                projection.withdraw()
                projection.reconcile()
            finally:
                projection.close()
            version, found, passed = self._verified(
                replace(self._wanted, name=current.name, made=current.made, rows=current.rows)
            )
            self._versions.note(version)
        return replace(self._after("updated", version), recall=found, gate=passed)

    def _after(self, action: str, live: Version) -> Reindexed:
        """Drop what is older than --keep says."""
        others = [
            v.name for v in self._versions.every() if v.name != live.name and v.state != "building"
        ]
        too_old = sorted(others)[: max(0, len(others) - (self._config.keep - 1))]
        if self._before in too_old:
            time.sleep(_GRACE_S)
        for name in too_old:
            self._drop(name)
        return replace(self._said(action, live), dropped=too_old)

    def _said(self, action: str, live: Version | None) -> Reindexed:
        wanted = self._wanted
        before = next((v for v in self._every if v.name == self._before), None)
        return Reindexed(
            action=action,
            live=live.name if live else self._before,
            before=self._before,
            rows=self._merged.count() if action == "planned" else live.rows if live else 0,
            rows_before=before.rows if before else 0,
            encoder=wanted.encoder,
            fingerprint=wanted.fingerprint,
            other_encoder=before is not None and before.fingerprint != wanted.fingerprint,
        )

    def _drop(self, name: str) -> None:
        """A version, what was staged for it, and the notes about it."""
        uri = self._config.milvus
        place = sources.absolute(uri) if is_lite(uri) else uri
        ledger = Ledger.of(self._merged, place, name)
        if there := ledger.bulk():
            Stage(there["stage"]).clear()
        self._versions.drop(name)
        sources.remove(ledger.folder)


def _layout(spec: CollectionSpec) -> str:
    """What of a collection's making is not of its contents, as JSON."""
    facts = {
        "metric": spec.metric, "index": spec.index, "index_params": spec.index_params,
        "vector_type": spec.vector_type, "columns": spec.columns,
        "partition_key": spec.partition_key, "scalar_index": list(spec.scalar_index),
    }  # fmt: skip
    return json.dumps(facts, sort_keys=True)
