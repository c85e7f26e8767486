"""``python -m mmssl_dist``."""

from mmssl_dist.app import main

if __name__ == "__main__":
    main()
