"""The dashboards, checked without Grafana: their shape, their SQL, and the rules of this house."""
