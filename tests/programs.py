"""Programs that a check needs and that a machine may not have."""

import shutil
import subprocess
import sys
from pathlib import Path


def find(name, package=None):
    """The path of a program, whose package is installed with apt if need be; None if that can't be done. Says what it does."""
    package = package or name
    if not shutil.which(name) and shutil.which("apt-get"):
        print(f"{Path(sys.argv[0]).name}: installing {package} with apt", flush=True)
        install = ["install", "--yes", "-qq", "--no-install-recommends", package]
        for arguments in (install, ["update", "-qq"], install):
            quiet = {"stdin": subprocess.DEVNULL, "stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
            subprocess.run(["apt-get", *arguments], **quiet)
            if shutil.which(name):
                break
    return shutil.which(name)
