"""Speed against ceilings and peers. Never part of the tests: they assert no times."""
