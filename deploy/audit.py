"""Audit the packages in locks/ for known vulnerabilities. Exits with 1 if there are any; reports what was not audited.

pip-audit asks PyPI for each package and treats an unknown package as safe; this script reports it as not audited.
"""

import json
import subprocess
import sys

AUDIT = ["-m", "pip_audit", "--disable-pip", "--require-hashes", "--progress-spinner", "off", "--format", "json"]


def main(locks: list[str]) -> int:
    """Print one line per lock and one per vulnerability."""
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
            _print(f"{lock}: NOT audited, nor the following locks: no vulnerability data available")
            break
        _print(f"{lock}: {len(known)} of {len(packages)} packages audited")
        for package in known:
            for vulnerability in package["vulns"]:
                fixed = ", ".join(vulnerability["fix_versions"]) or "no version"
                _print(f"  {package['name']} {package['version']}: {vulnerability['id']}, fixed in {fixed}")
                found += 1
    return int(found > 0)


def _print(line: str) -> None:
    sys.stdout.write(f"{line}\n")


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
