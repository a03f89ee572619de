"""How values look: colours that mean the same everywhere, thresholds, statuses, links."""

from typing import Final

from grafana_foundation_sdk.builders.dashboard import DashboardLink, FieldColor, ThresholdsConfig
from grafana_foundation_sdk.models.dashboard import (
    DashboardSpecialValueMapOptions,
    DynamicConfigValue,
    FieldColorModeId,
    SpecialValueMap,
    SpecialValueMatch,
    Threshold,
    ThresholdsMode,
    ValueMap,
    ValueMappingResult,
)

Steps = tuple[tuple[float | None, str], ...]
"""From which value on which colour; the first has no value."""

PERCENT, CELSIUS, WATT, KWH, GB, COUNT, SECONDS = "percent", "celsius", "watt", "kwatth", "gbytes", "short", "s"
"""Our GB are 2^30 bytes, which Grafana calls gbytes."""
MILLISECONDS, BYTES, BYTES_A_SECOND, MONEY, TIME = "ms", "bytes", "Bps", "locale", "dateTimeAsIso"
HOURS, GPU_HOURS = "suffix:h", "suffix:GPU-h"
"""Numbers as they are: Grafana's own unit of hours makes weeks and years of them."""

PLAIN: Final[Steps] = ((None, "blue"),)
GOOD: Final[Steps] = ((None, "green"),)
TROUBLE: Final[Steps] = ((None, "green"), (1, "red"))
"""None is well, one is too many."""
NOTABLE: Final[Steps] = ((None, "text"), (1, "orange"))
LOAD: Final[Steps] = ((None, "blue"), (5, "green"), (90, "orange"))
"""Idle, at work, at its limit."""
FULL: Final[Steps] = ((None, "green"), (80, "orange"), (90, "red"))
SKEW: Final[Steps] = ((None, "red"), (-30_000, "green"), (30_000, "red"))
"""Milliseconds; over 30 s is an event, too."""
DELAY: Final[Steps] = ((None, "green"), (60, "orange"), (300, "red"))
HEAT: Final[Steps] = ((None, "green"), (75, "orange"), (85, "red"))

STATUS_COLOURS: Final = {
    "online": "green",
    "offline": "red",
    "maintenance": "purple",
    "installing": "blue",
    "pending": "text",
}
STATUSES: Final = ValueMap(
    {
        status: ValueMappingResult(text=status, color=colour, index=index)
        for index, (status, colour) in enumerate(STATUS_COLOURS.items())
    }
)

WITHOUT_COLOUR: Final = SpecialValueMap(
    DashboardSpecialValueMapOptions(SpecialValueMatch.NULL, ValueMappingResult(text="–", color="transparent"))
)
"""For an empty value in a column whose values have a colour."""

NODE_LINK: Final = "/d/aiwm-node?var-node=${__data.fields.node_id}&${__url_time_range}"


def thresholds(steps: Steps) -> ThresholdsConfig:
    """For a panel."""
    return ThresholdsConfig().mode(ThresholdsMode.ABSOLUTE).steps([Threshold(value, colour) for value, colour in steps])


def colour(name: str) -> DynamicConfigValue:
    """One colour for a series."""
    return DynamicConfigValue("color", FieldColor().mode(FieldColorModeId.FIXED).fixed_color(name).build())


def by_value(scheme: FieldColorModeId) -> DynamicConfigValue:
    """A colour scale."""
    return DynamicConfigValue("color", FieldColor().mode(scheme).build())


def column(
    *more: DynamicConfigValue,
    unit: str | None = None,
    steps: Steps | None = None,
    cell: str | None = None,
    limits: tuple[float, float] | None = None,
    width: int | None = None,
    decimals: int | None = None,
    link: str | None = None,
    statuses: bool = False,
    hidden: bool = False,
) -> list[DynamicConfigValue]:
    """What is particular to one column. `cell` is a table's: gauge, color-text or color-background."""
    found = [*more]
    if unit is not None:
        found.append(DynamicConfigValue("unit", unit))
    if steps is not None:
        found.append(DynamicConfigValue("thresholds", thresholds(steps).build()))
        found.append(by_value(FieldColorModeId.THRESHOLDS))
    if statuses:
        found.append(DynamicConfigValue("mappings", [STATUSES]))
    if cell is not None:
        found.append(DynamicConfigValue("custom.cellOptions", _cell(cell)))
    if limits is not None:
        found += [DynamicConfigValue("min", limits[0]), DynamicConfigValue("max", limits[1])]
    if width is not None:
        found.append(DynamicConfigValue("custom.width", width))
    if decimals is not None:
        found.append(DynamicConfigValue("decimals", decimals))
    if link is not None:
        found.append(DynamicConfigValue("links", [data_link(link).build()]))
    if hidden:
        found.append(DynamicConfigValue("custom.hideFrom", {"viz": True, "legend": False, "tooltip": False}))
    return found


def data_link(url: str, title: str = "Show this node") -> DashboardLink:
    """From a value to where there is more about it."""
    return DashboardLink(title).url(url)


def _cell(kind: str) -> dict[str, object]:
    if kind == "gauge":
        return {"type": kind, "mode": "gradient", "valueDisplayMode": "text"}
    if kind == "color-background":
        return {"type": kind, "mode": "basic"}
    return {"type": kind}


def fill_below(name: str) -> DynamicConfigValue:
    """Fill what lies between two series."""
    return DynamicConfigValue("custom.fillBelowTo", name)


NODE_COLUMNS: Final = {"node_id": column(hidden=True), "Node": column(link=NODE_LINK)}
"""A node by its name, which links to its dashboard; `node_id` is there for the link alone."""
PERCENT_GAUGE: Final = column(unit=PERCENT, cell="gauge", limits=(0, 100), steps=LOAD, decimals=1)
SPREAD: Final = (
    colour("super-light-green"),
    DynamicConfigValue("custom.lineWidth", 1),
    DynamicConfigValue("custom.fillOpacity", 15),
)
