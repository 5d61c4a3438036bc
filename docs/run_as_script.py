"""What sphinx-gallery leaves out when it runs an example as a script."""

from pathlib import Path


def arguments(gallery, variables):
    """Say where the script is, and where its picture goes: not into the tree."""
    source, folder = variables["src_file"], Path(gallery["src_dir"], "_build/examples")
    variables["example_globals"]["__file__"] = source
    folder.mkdir(parents=True, exist_ok=True)
    return ["--out", str(folder / f"{Path(source).stem}.png")]
