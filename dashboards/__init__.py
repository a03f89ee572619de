"""What Grafana is given, and the program that writes it."""
