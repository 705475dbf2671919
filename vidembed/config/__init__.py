"""Every option, described once: the command line, a YAML file and Python are three faces of this.

A field's name is its flag (`segment_seconds` is `--segment-seconds`), its YAML key and its keyword
argument. A secret is never an option: its environment variable is named in the description.
"""

from vidembed.amounts import ActorRange, Limit
from vidembed.config.base import Config
from vidembed.config.embed import CompactConfig, EmbedConfig
from vidembed.config.evaluate import CompareConfig, EvaluateConfig
from vidembed.config.milvus import CollectionOptions, LoadConfig, MilvusOptions
from vidembed.config.plan import PlanConfig
from vidembed.config.refresh import RefreshConfig
from vidembed.config.reindex import ReindexConfig
from vidembed.config.search import AppConfig, SearchConfig, SimilarityConfig
from vidembed.config.tools import DoctorConfig, EncodersConfig, QuickstartConfig

__all__ = [
    "ActorRange",
    "AppConfig",
    "CollectionOptions",
    "CompactConfig",
    "CompareConfig",
    "Config",
    "DoctorConfig",
    "EmbedConfig",
    "EncodersConfig",
    "EvaluateConfig",
    "Limit",
    "LoadConfig",
    "MilvusOptions",
    "PlanConfig",
    "QuickstartConfig",
    "RefreshConfig",
    "ReindexConfig",
    "SearchConfig",
    "SimilarityConfig",
]
