"""`python -m memfix`, also under `accelerate launch -m memfix`."""

from memfix.cli import main

if __name__ == "__main__":
    main()
