"""transformers' networks, built from a configuration and filled with tensors that are given."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from transformers.initialization import no_init_weights

from vidembed.errors import WeightsError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from numpy.typing import NDArray
    from torch import Tensor, nn
    from transformers import PretrainedConfig


def build(
    make: Callable[[], nn.Module],
    state: Mapping[str, Tensor],
    where: str,
    *,
    computed: tuple[str, ...] = (),
) -> nn.Module:
    """A network with these tensors, float32, ready to infer.

    It is made on the CPU, without values in its parameters but with those that no file has: index
    buffers, and tables of positions that are plain attributes, which stay empty on the meta device.
    computed: ends of names that the network makes itself where the file does not have them.
    Raises WeightsError where names or shapes do not fit.
    """
    with no_init_weights():
        made = make()
    own = made.state_dict()
    absent = {k: v for k, v in own.items() if k not in state and k.endswith(computed)}
    given = {k: v.float() if v.is_floating_point() else v for k, v in state.items()}
    try:
        made.load_state_dict(given | absent, strict=True, assign=True)
    except RuntimeError as error:
        raise WeightsError(f"{where} does not fit the encoder: {error}") from error
    return made.eval().requires_grad_(False)


def attending(config: PretrainedConfig, implementation: str) -> PretrainedConfig:
    """With one implementation of attention everywhere, so that a vector does not depend on what
    else is installed.
    """
    config._attn_implementation = implementation
    for part in ("text_config", "vision_config"):
        if hasattr(config, part):
            getattr(config, part)._attn_implementation = implementation
    return config


def filled(frames: NDArray[Any], valid: Sequence[int]) -> NDArray[Any]:
    """Clips [n, frames, …] whose padding is the last frame that counts: these networks see all
    frames at once and can leave none out.
    """
    count = frames.shape[1]
    if all(length == count for length in valid):
        return frames
    last = np.clip(np.asarray(valid)[:, None] - 1, 0, None)
    place = np.minimum(np.arange(count)[None, :], last)
    found: NDArray[Any] = np.take_along_axis(frames, place[:, :, None, None, None], axis=1)
    return found
