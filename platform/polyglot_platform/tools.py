"""The command-line tools, linked into .bin of the checkout."""

from polyglot_platform.components import TOOLS
from polyglot_platform.places import Places
from polyglot_platform.progress import Progress
from polyglot_platform.workshop import Workshop


def link(places: Places, progress: Progress, workshop: Workshop) -> None:
    """Build what is missing and point .bin/NAME at it."""
    places.bin.mkdir(exist_ok=True)
    folders = workshop.ensure(TOOLS)
    for tool, folder in zip(TOOLS, folders, strict=True):
        link = places.bin / tool.name
        if not link.is_symlink() or link.readlink() != folder / tool.name:
            link.unlink(missing_ok=True)
            link.symlink_to(folder / tool.name)
            progress.say(f"{tool.name} {tool.version}", f"linked to {link}")
