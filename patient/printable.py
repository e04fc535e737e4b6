"""Make text safe to print: of other programs, and names of files."""


def printable(text: object) -> str:
    """Escape what could steer a terminal or turn the direction of text, and bytes of file names that are not UTF-8."""
    return "".join(char if char.isprintable() else _escape(char) for char in str(text))


def _escape(char: str) -> str:
    is_byte = "\udc80" <= char <= "\udcff"  # how Python's strings hold a byte that is not UTF-8
    return f"\\x{ord(char) & 0xFF:02x}" if is_byte else repr(char)[1:-1]
