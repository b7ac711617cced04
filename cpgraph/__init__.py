"""Pure step functions that compose into pipelines, compile into a DAG, and are never computed twice for nothing."""

from cpgraph import events
from cpgraph.errors import (
    CompileError,
    ConflictError,
    CpgraphError,
    DataError,
    ModelError,
    NoValue,
    RecordNotFound,
    Retry,
    StorageError,
)
from cpgraph.events import Stream
from cpgraph.graph import Graph
from cpgraph.models import AUTO, File, auto_id, create, delete, files, model, result, update
from cpgraph.pipelines import pipeline, where
from cpgraph.runs import Run, runs
from cpgraph.steps import Limit, alias, step
from cpgraph.store import Store

__all__ = [
    "AUTO",
    "CompileError",
    "ConflictError",
    "CpgraphError",
    "DataError",
    "File",
    "Graph",
    "Limit",
    "ModelError",
    "NoValue",
    "RecordNotFound",
    "Retry",
    "Run",
    "StorageError",
    "Store",
    "Stream",
    "alias",
    "auto_id",
    "create",
    "delete",
    "events",
    "files",
    "model",
    "pipeline",
    "result",
    "runs",
    "step",
    "update",
    "where",
]
