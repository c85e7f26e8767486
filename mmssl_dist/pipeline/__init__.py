"""The stages of a job: the table of them, the engine that brings them up to date, and the search on top."""
