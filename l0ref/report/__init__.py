"""Reports: JSON, tables, aggregates over seeds, figures."""

from l0ref.environment import environment
from l0ref.report.figures import draw_all
from l0ref.report.schema import SCHEMA_VERSION
from l0ref.report.seeds import aggregate, aggregate_text, find_reports, find_runs
from l0ref.report.summary import summarize, untuned_curves
from l0ref.report.tables import layers_table, speed_table, stages_table
from l0ref.report.text import full_text
from l0ref.report.usage import deployment, deployment_text
from l0ref.tables import percent, table, whole

__all__ = [
    "SCHEMA_VERSION",
    "aggregate",
    "aggregate_text",
    "deployment",
    "deployment_text",
    "draw_all",
    "environment",
    "find_reports",
    "find_runs",
    "full_text",
    "layers_table",
    "percent",
    "speed_table",
    "stages_table",
    "summarize",
    "table",
    "untuned_curves",
    "whole",
]
