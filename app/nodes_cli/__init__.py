"""`aiwm nodes`: the REST API for a person at a terminal."""
