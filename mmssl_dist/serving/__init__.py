"""Using what a run exported: in a notebook, from the command line, over HTTP. Ranking needs neither torch nor
ray."""
