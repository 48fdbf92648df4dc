"""A separate virtual environment for plugins. It can import the packages that are installed here."""

from __future__ import annotations

import os
import subprocess
import sys
import sysconfig
import venv
from dataclasses import dataclass
from pathlib import Path

_AUDIOZEN = "from audiozen_core.cli.main import main; main()"


@dataclass(frozen=True)
class CleanEnvironment:
    """A virtual environment in a folder. It imports torch and AudioZEN from the environment of the tests."""

    folder: Path

    @classmethod
    def make(cls, folder: Path) -> CleanEnvironment:
        venv.create(folder, with_pip=False, symlinks=True)
        made = cls(folder)
        # These folders come after the environment's own, so a plugin installed there takes precedence.
        # `addsitedir` also reads the .pth files of editable installations.
        outer = "".join(f"import site; site.addsitedir({path!r})\n" for path in _site_folders())
        made.site.joinpath("outer.pth").write_text(outer)
        return made

    @property
    def python(self) -> Path:
        return self.folder / ("Scripts" if os.name == "nt" else "bin") / "python"

    @property
    def site(self) -> Path:
        scheme = "nt" if os.name == "nt" else "posix_prefix"  # Python 3.10 has no scheme "venv"
        return Path(sysconfig.get_path("purelib", scheme, vars={"base": str(self.folder)}))

    def run(self, *arguments: str, cwd: Path) -> subprocess.CompletedProcess[str]:
        """Runs Python in this environment."""
        kept = {name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", "PYTEST"))}
        command = [str(self.python), *map(str, arguments)]
        return subprocess.run(command, cwd=cwd, capture_output=True, text=True, check=False, env=kept)

    def audiozen(self, *arguments: str, cwd: Path) -> subprocess.CompletedProcess[str]:
        return self.run("-c", _AUDIOZEN, *arguments, cwd=cwd)

    def pip(self, *arguments: str) -> None:
        """Runs pip for this environment."""
        command = [sys.executable, "-m", "pip", "--python", str(self.python), "--disable-pip-version-check", *arguments]
        subprocess.run(command, check=True, capture_output=True)

    def install(self, wheel: Path) -> None:
        self.pip("install", "--no-index", "--no-deps", "--upgrade", str(wheel))


def build_wheel(project: Path, folder: Path) -> Path:
    """Builds the wheel of a project with the hatchling of the test environment."""
    command = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(folder)]
    subprocess.run(command, cwd=project, check=True, capture_output=True)
    return max(folder.glob("*.whl"), key=lambda path: path.stat().st_mtime_ns)


def _site_folders() -> list[str]:
    return list(dict.fromkeys([sysconfig.get_path("purelib"), sysconfig.get_path("platlib")]))
