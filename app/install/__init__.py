"""What a GPU machine is given: the script that a person runs there, and the file that it downloads."""
