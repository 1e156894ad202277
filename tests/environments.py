"""Run the tests with the oldest or the newest versions that requirements.txt allows.

Reads requirements.txt and requirements-cluster.txt, whose lower bounds are versions that exist, and
tests/requirements.txt. Makes
an environment in a temporary folder, or in the one given, which is kept and taken up again; installs all of that
into it, prints the versions and runs the tests. Further arguments go to pytest, whose exit status this ends with.

$ python tests/environments.py oldest --python python3.10
$ python tests/environments.py newest --python python3.13
$ python tests/environments.py oldest --python python3.10 --folder .venv/oldest tests/confmatrix_test.py -x
"""
import argparse
import os
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent


def lower_bounds(requirements):
    """["numpy==2.0", ...] of lines like "numpy>=2.0,<3  # why": each with its lower bound as the only version."""
    lines = [line for line in requirements.splitlines() if line.strip() and not line.startswith("#")]
    return ["==".join(re.match(r"([\w.-]+)>=([\w.]+)", line).groups()) for line in lines]


def main(argv=None):
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter,
                                     allow_abbrev=False)  # -p, say, is pytest's
    parser.add_argument("versions", choices=("oldest", "newest"))
    parser.add_argument("--python", default=sys.executable, help="the Python to use (default: the one that runs this)")
    parser.add_argument("--folder", type=Path, help="where to make and keep the environment")
    args, for_pytest = parser.parse_known_args(argv)
    if not shutil.which(args.python):
        parser.error(f"{args.python} is not there: install it, or give the path of another Python")

    files = [ROOT / name for name in ("requirements.txt", "requirements-cluster.txt")]
    bounds = [bound for file in files for bound in lower_bounds(file.read_text("utf-8"))]
    with tempfile.TemporaryDirectory() as temporary:
        Path(temporary).chmod(0o755)  # a test runs scripts as somebody else, who must be able to reach this Python
        folder = (args.folder or Path(temporary) / "environment").absolute()
        subprocess.run([args.python, "-m", "venv", folder], check=True)
        python = folder / ("Scripts/python.exe" if os.name == "nt" else "bin/python")
        constraints = Path(temporary) / "constraints.txt"
        constraints.write_text("\n".join(bounds) if args.versions == "oldest" else "", "utf-8")
        subprocess.run([python, "-m", "pip", "install", "--quiet", "--upgrade", "--upgrade-strategy", "eager",
                        "--constraint", constraints, "--requirement", ROOT / "tests" / "requirements.txt"], check=True)
        subprocess.run([python, "--version"], check=True)
        subprocess.run([python, "-m", "pip", "list", "--format", "freeze"], check=True)
        return subprocess.run([python, "-m", "pytest", *for_pytest], cwd=ROOT).returncode


if __name__ == "__main__":
    sys.exit(main())
