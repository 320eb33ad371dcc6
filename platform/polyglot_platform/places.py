"""Where things lie: the checkout, and the cache that outlives it."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Places:
    """The checkout (`root`) and the cache outside it, which a fresh clone finds warm."""

    root: Path
    cache: Path

    @classmethod
    def of(cls, environment: Mapping[str, str]) -> "Places":
        """Follow the XDG base directory specification for the cache."""
        home = environment.get("XDG_CACHE_HOME") or str(Path.home() / ".cache")
        return cls(root=Path(__file__).resolve().parents[2], cache=Path(home).resolve() / "polyglot")

    @property
    def platform(self) -> Path:
        """The folder of all recipes."""
        return self.root / "platform"

    @property
    def bin(self) -> Path:
        """Links to the tools of this checkout, git-ignored."""
        return self.root / ".bin"

    @property
    def kind_config(self) -> Path:
        """What a user passes to `kind create cluster`."""
        return self.root / "kind-config.yaml"

    @property
    def artifacts(self) -> Path:
        """Built files, a folder per name and content hash."""
        return self.cache / "artifacts"

    @property
    def stamps(self) -> Path:
        """When each of our images was last used, as file times."""
        return self.cache / "image-stamps"

    @property
    def engine(self) -> Path:
        """Pid file and log of an engine that we started."""
        return self.cache / "engine"

    def log(self, name: str) -> Path:
        """The log file of one piece of work."""
        return self.cache / "logs" / f"{name}.log"
