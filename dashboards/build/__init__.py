"""The dashboards as Python: `python -m dashboards.build` writes the files that Grafana reads."""
