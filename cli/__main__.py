"""`python -m cli`, which is `relay` where that is not installed."""

from cli.app import app

if __name__ == "__main__":
    app(prog_name="relay")
