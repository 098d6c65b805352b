"""Images built and run without Docker: each stage is an overlay over this machine's root, in mount namespaces.

This machine stands for the base image: its Python is bound to /usr/local, where the base has its own.
"""

import os
import shlex
import shutil
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from tests.deploy.dockerfile import BUILT_IN, ROOT, Stage, assignments, build_context, filled

PYTHON = Path(sys.base_prefix)
PASSED_ON = ("PIP_", "SSL_", "REQUESTS_", "HTTP_", "HTTPS_", "http", "no_proxy", "NO_PROXY")
"""Beginnings of the variables with which pip reaches its index, which a build takes from its host."""

MOUNT_POINTS = ("/bundle", "/run/secrets")
"""Folders that Docker makes where something is mounted."""


def why_not() -> str | None:
    """Return the reason for which no image can be built here; None if it can."""
    if os.geteuid() != 0:
        return "only root can mount the stages of an image"
    if not (PYTHON / "bin/python").exists():
        return f"{PYTHON} has no bin/python to stand for that of the base image"
    if subprocess.run(["unshare", "--mount", "true"], capture_output=True).returncode:
        return "this machine allows no mount namespaces"
    return None


@dataclass(frozen=True, kw_only=True)
class Image:
    """An image that has been built."""

    stage: Stage
    """Its last stage."""
    layer: Path
    """What it has over its base."""

    def command(
        self, command: list[str], *, environment: Mapping[str, str], volumes: Mapping[str, Path], work: Path
    ) -> list[str]:
        """Return the command that runs another in a container, as the image's user and with a read-only root.

        Args:
            command: What to run.
            environment: Variables over those of the image.
            volumes: Folders by their place in the container, one of `MOUNT_POINTS` or of the image's own volumes; the
                former are read-only. A volume of the image that is not named is a file system in memory.
            work: A folder of this container's own.
        """
        scratch, root = work / "scratch", work / "root"
        for folder in (scratch, root):
            folder.mkdir(parents=True)
        own = self.stage.json("VOLUME")
        layers = f"lowerdir=/,upperdir={self.layer},workdir={scratch}"
        lines = [f"mount -t overlay overlay -o ro,{layers} {root}", *_devices(root)]
        for place in own:
            owner = "uid=10001,gid=10001,mode=700" if place != "/tmp" else "mode=1777"
            lines.append(f"mount -t tmpfs -o {owner} none {root}{place}")
        for place, source in volumes.items():
            lines.append(f"mount --bind {shlex.quote(str(source))} {root}{place}")
            if place not in own:
                lines.append(f"mount -o remount,bind,ro {root}{place}")
        (user,) = self.stage.all("USER")
        variables = [f"{name}={value}" for name, value in {**self.stage.environment(), **environment}.items()]
        inside = ["chroot", f"--userspec={user}", "--groups=", str(root), "env", "-i", *variables, *command]
        return ["unshare", "--mount", "sh", "-ec", "\n".join([*lines, f"exec {shlex.join(inside)}"])]


def build(stages: tuple[Stage, ...], work: Path) -> Image:
    """Build an image: run every instruction of its stages, in order."""
    context = work / "context"
    for file in build_context():
        (context / file).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / file, context / file)
    lines: list[str] = []
    for stage in stages:
        lines += _stage_lines(stage, work, context)
    lines += [f"mkdir -p {_folder(work, stages[-1])}/root{place}" for place in MOUNT_POINTS]
    result = subprocess.run(["unshare", "--mount", "sh", "-ec", "\n".join(lines)], capture_output=True, text=True)
    assert result.returncode == 0, result.stderr[-3000:]
    return Image(stage=stages[-1], layer=_folder(work, stages[-1]) / "layer")


def _folder(work: Path, stage: Stage) -> Path:
    return work / (stage.name or "last")


def _stage_lines(stage: Stage, work: Path, context: Path) -> list[str]:
    """Return the lines of a shell that build a stage, whose root stays mounted for those that copy from it."""
    place = _folder(work, stage)
    layer, scratch, root = (place / name for name in ("layer", "scratch", "root"))
    for folder in (layer, scratch, root):
        folder.mkdir(parents=True)
    lines = [f"mount -t overlay overlay -o lowerdir=/,upperdir={layer},workdir={scratch} {root}", *_devices(root)]
    lines.append(f"chroot {root} ldconfig")  # the base has done it for its Python
    passed_on = {name: value for name, value in os.environ.items() if name.startswith(PASSED_ON)}
    variables, directory = {"HOME": "/root", "PATH": BUILT_IN, **passed_on}, "/"
    for keyword, rest in stage.instructions:
        if keyword in ("ARG", "ENV"):
            variables |= assignments(rest)
        elif keyword == "WORKDIR":
            directory = rest
            lines.append(f"mkdir -p {root}{directory}")
        elif keyword == "COPY":
            lines += _copy_lines(rest, work, context, f"{root}{directory}", root)
        elif keyword == "RUN":
            command = f"cd {directory}; {filled(rest, variables)}"
            inside = ["env", "-i", *(f"{name}={value}" for name, value in variables.items()), "sh", "-c", command]
            lines.append(f"chroot {root} {shlex.join(inside)}")
    return lines


def _copy_lines(rest: str, work: Path, context: Path, directory: str, root: Path) -> list[str]:
    """Return the lines that copy a folder of the context, or of another stage, to a folder."""
    *options, source, target = rest.split()
    above = context
    if options:
        (option,) = options
        above = work / option.removeprefix("--from=") / "root"
    to = f"{root}{target}" if target.startswith("/") else f"{directory}/{target}"
    return [f"mkdir -p {to}", f"cp -a {above}/{source.lstrip('/')}/. {to}"]


def _devices(root: Path) -> list[str]:
    return [
        f"mount --bind {PYTHON} {root}/usr/local",
        f"mount -o remount,bind,ro {root}/usr/local",
        f"mount -t proc proc {root}/proc",
        f"mount --rbind /dev {root}/dev",
    ]
