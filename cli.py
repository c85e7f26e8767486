"""``python cli.py ...`` from a checkout or a shipped working directory does what ``mmssl-dist ...`` does."""

from mmssl_dist.app import main

if __name__ == "__main__":
    main()
