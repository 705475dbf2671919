"""From costs to what is expected of clusters."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from vidembed.planning.choices import clusters, fitted, look, moves
from vidembed.planning.machines import Cluster, Machine
from vidembed.planning.model import NotMeasuredError
from vidembed.planning.result import Outlook

if TYPE_CHECKING:
    from collections.abc import Sequence

    from vidembed.config.plan import PlanConfig
    from vidembed.planning.model import Costs, Work
    from vidembed.planning.prices import Prices


@dataclass(frozen=True, slots=True)
class Reckoning:
    """The clusters of one plan."""

    config: PlanConfig
    work: Work
    book: Prices

    def all(self, costs: Costs, drawn: Sequence[Costs]) -> tuple[list[Outlook], list[str]]:
        """The outlooks, the cheapest first, and what could not be looked at, with the reason."""
        config = self.config
        named = [self.book.cluster(words) for words in config.nodes]
        if config.cpus is not None:
            one = Machine(
                name=f"{config.cpus} CPUs, {config.gpus or 0} GPUs",
                cpus=config.cpus,
                gpus=config.gpus or 0,
            )
            named = [Cluster(((one, 1),)), *named]
        lacking: list[str] = []
        chosen = named
        if not named:
            deadline = None if config.deadline is None else config.deadline * 3600
            chosen, lacking = clusters(costs, self.book.types.values(), self.work, deadline)
        outlooks = []
        for cluster in chosen:
            try:
                outlooks.append(self.outlook(cluster, costs, drawn))
            except NotMeasuredError as error:
                lacking.append(f"{cluster}: {error}")
        return sorted(outlooks, key=_by_cost), lacking

    def outlook(self, cluster: Cluster, costs: Costs, drawn: Sequence[Costs]) -> Outlook:
        """Raises NotMeasuredError."""
        found = look(costs, cluster, self.work)
        spread = [look(each, cluster, self.work).seconds for each in drawn]
        low, high = (float(bound) for bound in np.quantile(spread, (0.025, 0.975)))
        price = cluster.per_hour(spot=self.config.spot)
        following, gain = found.next_limit
        actors = fitted(self.work, cluster).config.encode_actors
        deadline = self.config.deadline
        return Outlook(
            name=str(cluster),
            nodes={machine.name: count for machine, count in cluster.groups},
            videos_per_s=found.rate,
            seconds=found.seconds,
            seconds_interval=(low, high),
            cost=None if price is None else price * found.seconds / 3600,
            cost_interval=None if price is None else (price * low / 3600, price * high / 3600),
            bottleneck=found.bottleneck,
            next=following,
            next_gain=gain,
            limits=found.limits,
            moves=tuple(moves(costs, cluster, self.work)),
            decode_actors=str(found.pools.decode),
            encode_actors=str(found.pools.encode),
            flags="" if actors == self.config.encode_actors else f"--encode-actors {actors}",
            store_bytes=found.store_bytes,
            store_limit=found.store_limit,
            met=None if deadline is None else found.seconds <= deadline * 3600,
        )


def _by_cost(outlook: Outlook) -> tuple[float, float]:
    return (float("inf") if outlook.cost is None else outlook.cost, outlook.seconds)
