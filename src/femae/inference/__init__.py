"""`femae predict`: films and pictures to tables. `predictor` chains the stages, `run` goes through the inputs."""
