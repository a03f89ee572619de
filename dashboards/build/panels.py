"""Panels as this house has them: each has a title, a description, a unit and one query."""

from collections.abc import Iterable, Mapping
from typing import Final, TypeVar

from grafana_foundation_sdk.builders import barchart, heatmap, stat, statetimeline, table, timeseries
from grafana_foundation_sdk.builders.common import (
    GraphThresholdsStyleConfig,
    ReduceDataOptions,
    StackingConfig,
    VizLegendOptions,
    VizTextDisplayOptions,
    VizTooltipOptions,
)
from grafana_foundation_sdk.builders.dashboard import FieldColor
from grafana_foundation_sdk.builders.heatmap import (
    CellValues,
    HeatmapColorOptions,
    HeatmapTooltip,
    RowsHeatmapOptions,
    YAxisConfig,
)
from grafana_foundation_sdk.cog.builder import Builder
from grafana_foundation_sdk.models.common import (
    AxisPlacement,
    BigValueColorMode,
    BigValueGraphMode,
    BigValueJustifyMode,
    BigValueTextMode,
    GraphDrawStyle,
    GraphGradientMode,
    GraphThresholdsStyleMode,
    HeatmapCellLayout,
    LegendDisplayMode,
    LegendPlacement,
    LineInterpolation,
    SortOrder,
    StackingMode,
    TableCellHeight,
    TooltipDisplayMode,
    VisibilityMode,
    VizOrientation,
)
from grafana_foundation_sdk.models.dashboard import DynamicConfigValue, FieldColorModeId, Panel
from grafana_foundation_sdk.models.heatmap import HeatmapColorMode, HeatmapColorScale

from dashboards.build.looks import PLAIN, STATUSES, Steps, thresholds
from dashboards.build.query import DATA_SOURCE, Format, Query

AnyPanel = Builder[Panel]

Columns = Mapping[str, list[DynamicConfigValue]]
"""By a column's name: what is particular to it."""

_Panel = TypeVar(
    "_Panel",
    stat.Panel,
    timeseries.Panel,
    table.Panel,
    statetimeline.Panel,
    heatmap.Panel,
    barchart.Panel,
)

NOTHING: Final = "–"
TALL: Final = 9
"""A legend of three rows fits below."""
NARROWEST: Final = 60
"""Pixels of a column that has no width of its own; Grafana's 150 would push the last ones out of sight."""


def stats(
    title: str,
    description: str,
    sql: str,
    *,
    unit: str,
    span: int,
    height: int = 4,
    steps: Steps = PLAIN,
    columns: Columns | None = None,
    background: bool = False,
) -> stat.Panel:
    """Big numbers, one for each column of one row."""
    panel = (
        stat.Panel()
        .color_mode(BigValueColorMode.BACKGROUND if background else BigValueColorMode.VALUE)
        .graph_mode(BigValueGraphMode.NONE)
        .justify_mode(BigValueJustifyMode.CENTER)
        .text_mode(BigValueTextMode.VALUE_AND_NAME)
        .orientation(VizOrientation.VERTICAL)
        .wide_layout(False)
        .reduce_options(ReduceDataOptions().calcs(["lastNotNull"]).fields("/.*/").values(False))
        .text(VizTextDisplayOptions().title_size(13).value_size(26))
        .color_scheme(FieldColor().mode(FieldColorModeId.THRESHOLDS))
        .thresholds(thresholds(steps))
    )
    return _with(panel, title, description, Query(sql, Format.TABLE), unit, span, height, columns)


def curves(
    title: str,
    description: str,
    sql: str,
    *,
    unit: str,
    span: int = 12,
    height: int = TALL,
    columns: Columns | None = None,
    calcs: Iterable[str] = ("mean", "max", "lastNotNull"),
    limits: tuple[float | None, float | None] = (0, None),
    steps: Steps | None = None,
    stacked: bool = False,
    bars: bool = False,
    many: bool = False,
) -> timeseries.Panel:
    """Values over time. `steps` are drawn as dashed lines; the legend of `many` series stands beside them."""
    panel = (
        timeseries.Panel()
        .draw_style(GraphDrawStyle.BARS if bars else GraphDrawStyle.LINE)
        .line_interpolation(LineInterpolation.LINEAR)
        .line_width(1 if stacked or bars else 2)
        .fill_opacity(70 if bars else 40 if stacked else 8)
        .gradient_mode(GraphGradientMode.NONE)
        .show_points(VisibilityMode.AUTO)
        .span_nulls(False)
        .stacking(StackingConfig().mode(StackingMode.NORMAL if stacked else StackingMode.NONE).group("A"))
        .legend(_legend(calcs, beside=many))
        .tooltip(VizTooltipOptions().mode(TooltipDisplayMode.MULTI).sort(SortOrder.DESCENDING))
        .color_scheme(FieldColor().mode(FieldColorModeId.PALETTE_CLASSIC))
    )
    low, high = limits
    if low is not None:
        panel.min(low)
    if high is not None:
        panel.max(high)
    if steps is not None:
        panel.thresholds(thresholds(steps))
        panel.thresholds_style(GraphThresholdsStyleConfig().mode(GraphThresholdsStyleMode.DASHED))
    return _with(panel, title, description, Query(sql, Format.TIME_SERIES), unit, span, height, columns)


def rows(
    title: str,
    description: str,
    sql: str,
    *,
    unit: str,
    span: int = 12,
    height: int = TALL,
    columns: Columns | None = None,
    filterable: Iterable[str] = (),
) -> table.Panel:
    """A table; `filterable` are columns of text by whose values one may choose rows."""
    panel = (
        table.Panel()
        .show_header(True)
        .cell_height(TableCellHeight.SM)
        .min_width(NARROWEST)
        .color_scheme(FieldColor().mode(FieldColorModeId.THRESHOLDS))
        .thresholds(thresholds(((None, "text"),)))
    )
    for name in filterable:
        panel.override_by_name(name, [DynamicConfigValue("custom.filterable", True)])
    return _with(panel, title, description, Query(sql, Format.TABLE), unit, span, height, columns)


def timeline(
    title: str, description: str, sql: str, *, span: int = 24, height: int = 4, unit: str = "string"
) -> statetimeline.Panel:
    """Statuses as bands of their colours."""
    panel = (
        statetimeline.Panel()
        .merge_values(True)
        .show_value(VisibilityMode.AUTO)
        .row_height(0.9)
        .fill_opacity(80)
        .line_width(0)
        .span_nulls(False)
        .legend(
            VizLegendOptions().display_mode(LegendDisplayMode.LIST).placement(LegendPlacement.BOTTOM).show_legend(True)
        )
        .tooltip(VizTooltipOptions().mode(TooltipDisplayMode.SINGLE).sort(SortOrder.NONE))
        .mappings([STATUSES])
        .color_scheme(FieldColor().mode(FieldColorModeId.FIXED).fixed_color("text"))
    )
    return _with(panel, title, description, Query(sql, Format.TABLE), unit, span, height, None)


def buckets(
    title: str,
    description: str,
    sql: str,
    *,
    unit: str,
    span: int = 12,
    height: int = TALL,
    scheme: str = "Turbo",
    axis: str = "",
) -> heatmap.Panel:
    """A heat map of which each series is a bucket, counted by the database."""
    panel = (
        heatmap.Panel()
        .calculate(False)
        .rows_frame(RowsHeatmapOptions().layout(HeatmapCellLayout.AUTO).value("GPUs"))
        .color(
            HeatmapColorOptions()
            .mode(HeatmapColorMode.SCHEME)
            .scheme(scheme)
            .fill("dark-orange")
            .scale(HeatmapColorScale.EXPONENTIAL)
            .exponent(0.5)
            .steps(64)
            .reverse(False)
        )
        .cell_gap(1)
        .cell_values(CellValues().unit(unit).decimals(0))
        .y_axis(YAxisConfig().axis_placement(AxisPlacement.LEFT).axis_label(axis).reverse(False))
        .tooltip(HeatmapTooltip().mode(TooltipDisplayMode.SINGLE).y_histogram(True).show_color_scale(True))
        .show_legend()
    )
    return _with(panel, title, description, Query(sql, Format.TIME_SERIES), unit, span, height, None)


def bars(
    title: str,
    description: str,
    sql: str,
    *,
    unit: str,
    span: int = 12,
    height: int = TALL,
    columns: Columns | None = None,
    by: str,
    stacked: bool = False,
) -> barchart.Panel:
    """A bar, or several, for each row; `by` is the column that names them."""
    panel = (
        barchart.Panel()
        .x_field(by)
        .orientation(VizOrientation.VERTICAL)
        .stacking(StackingMode.NORMAL if stacked else StackingMode.NONE)
        .show_value(VisibilityMode.AUTO)
        .bar_width(0.9)
        .group_width(0.7)
        .fill_opacity(75)
        .line_width(0)
        .legend(_legend(()))
        .tooltip(VizTooltipOptions().mode(TooltipDisplayMode.MULTI).sort(SortOrder.NONE))
        .color_scheme(FieldColor().mode(FieldColorModeId.PALETTE_CLASSIC))
        .min(0)
    )
    return _with(panel, title, description, Query(sql, Format.TABLE), unit, span, height, columns)


def _legend(calcs: Iterable[str], *, beside: bool = False) -> VizLegendOptions:
    chosen = [*calcs]
    mode = LegendDisplayMode.TABLE if chosen else LegendDisplayMode.LIST
    placement = LegendPlacement.RIGHT if beside else LegendPlacement.BOTTOM
    return VizLegendOptions().display_mode(mode).placement(placement).show_legend(True).calcs(chosen)


def _with(
    panel: _Panel,
    title: str,
    description: str,
    query: Query,
    unit: str,
    span: int,
    height: int,
    columns: Columns | None,
) -> _Panel:
    """What every panel has."""
    panel.title(title).description(description).datasource(DATA_SOURCE).with_target(query)
    panel.unit(unit).no_value(NOTHING).span(span).height(height)
    for name, properties in (columns or {}).items():
        panel.override_by_name(name, properties)
    return panel
