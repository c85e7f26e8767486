"""From raw files to the dataset artifact (``prepare``), and synthetic raw files (``synthesize``)."""
