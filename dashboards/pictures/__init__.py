"""Pictures of the dashboards for the docs: a simulated fleet, the panels' queries, Grafana's own components."""
