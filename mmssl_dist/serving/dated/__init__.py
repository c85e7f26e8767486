"""Tables that keep the lists of every day: a row for each user and rank, split by date."""
