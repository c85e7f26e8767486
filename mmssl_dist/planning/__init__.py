"""What a job will need, before it runs: memory, traffic, time, storage and money, from sizes and settings
alone."""
