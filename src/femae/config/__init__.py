"""Settings of all commands as pydantic models; what a recipe or an option may be called is written here alone."""
