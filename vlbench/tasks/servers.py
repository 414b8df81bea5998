"""What the evaluation server of a task takes, and in which words it says what came of it."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import NamedTuple


class Server(NamedTuple):
    """The evaluation server of a task; without values, one that takes any split and whose words are not known.

    A task that has one says so by a class attribute ``server``.
    """

    names: Mapping[str, str] = {}
    """What it calls a score -> what we call it; the main one first. Case and marks between words do not matter."""
    wants: str = ""
    """The one split it takes the answers to; empty where it takes any."""
    tells: Mapping[str, tuple[str, ...]] = {}
    """A split that it takes -> others that lie within, of which its reply is, too."""
    parts: Mapping[str, str] = {}
    """What stands in a reply where others have a split -> how the names of its scores end."""

    def name(self, said: str, main: str) -> str:
        """Return our name of a score; one that is not known keeps its own, in lower case with underscores."""
        known = {"overall": main} | {plain(key): own for key, own in self.names.items()}
        return known.get(plain(said), plain(said))


def server_of(task: type) -> Server:
    """Return what a task says of its server; a task of one's own need not know of any."""
    found = getattr(task, "server", None)
    return found if isinstance(found, Server) else Server()


def plain(name: str) -> str:
    """Write a name as ours are: ``Q->AR`` is q_ar, and ``yes/no`` is yes_no."""
    return re.sub(r"[\W_]+", "_", name.lower()).strip("_")
