"""Speed against ceilings and peers. Not part of the tests, which assert no times."""
