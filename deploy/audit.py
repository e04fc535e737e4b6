"""Known vulnerabilities in what locks/ pins. Exits with 1 if there are any; says so where it could not find out.

pip-audit asks PyPI, package by package, and takes one that is unknown there for a good one: hence this.
"""

import json
import subprocess
import sys

AUDIT = ["-m", "pip_audit", "--disable-pip", "--require-hashes", "--progress-spinner", "off", "--format", "json"]


def main(locks: list[str]) -> int:
    """One line a lock, and one a vulnerability."""
    found = 0
    for lock in locks:
        command = [sys.executable, *AUDIT, "--requirement", lock]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        try:
            packages = json.loads(done.stdout)["dependencies"]
        except ValueError:
            packages = []
        known = [package for package in packages if "vulns" in package]
        if not known:
            _say(f"{lock}: NOT audited, and nothing after it: no vulnerability data in reach")
            break
        _say(f"{lock}: {len(known)} of {len(packages)} packages audited")
        for package in known:
            for vulnerability in package["vulns"]:
                fixed = ", ".join(vulnerability["fix_versions"]) or "no version"
                _say(f"  {package['name']} {package['version']}: {vulnerability['id']}, fixed in {fixed}")
                found += 1
    return int(found > 0)


def _say(line: str) -> None:
    sys.stdout.write(f"{line}\n")


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
