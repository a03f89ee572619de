"""A query of Grafana's PostgreSQL data source, for which the SDK has no model."""

from enum import StrEnum
from textwrap import dedent
from typing import Final

from grafana_foundation_sdk.cog.builder import Builder
from grafana_foundation_sdk.cog.variants import Dataquery
from grafana_foundation_sdk.models.common import DataSourceRef

DATA_SOURCE: Final = DataSourceRef(type_val="grafana-postgresql-datasource", uid="aiwm")


class Format(StrEnum):
    """What the data source makes of the rows: series by time, or the rows as they are."""

    TIME_SERIES = "time_series"
    TABLE = "table"


class Query(Dataquery, Builder[Dataquery]):
    """One statement, as it is reviewed and as it is sent."""

    def __init__(self, sql: str, form: Format, ref_id: str = "A") -> None:
        self._sql = dedent(sql).strip()
        self._form = form
        self._ref_id = ref_id

    def build(self) -> Dataquery:
        """It is its own builder."""
        return self

    def to_json(self) -> dict[str, object]:
        """The target of a panel."""
        return {
            "refId": self._ref_id,
            "datasource": DATA_SOURCE,
            "format": self._form,
            "rawQuery": True,
            "editorMode": "code",
            "rawSql": self._sql,
        }
