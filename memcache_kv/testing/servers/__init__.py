"""The servers behind the fixtures: in this process, as a program that is run, or one that runs already."""
