"""What can be known of the containers where no container runs."""
