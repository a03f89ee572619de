"""What the answers of history are written in."""

from enum import StrEnum
from typing import Final


class Format(StrEnum):
    """JSON has series, the others tables."""

    JSON = "json"
    CSV = "csv"
    PARQUET = "parquet"
    ARROW = "arrow"


MEDIA_TYPES: Final = {
    Format.JSON: "application/json",
    Format.CSV: "text/csv",
    Format.PARQUET: "application/vnd.apache.parquet",
    Format.ARROW: "application/vnd.apache.arrow.stream",
}
PARAMETER: Final = "format"
"""The parameter that names one; `Accept` does where it is missing."""
