"""What pyarrow's writers write into, and what has been written so far is taken out of."""


class Sink:
    """A file to pyarrow."""

    closed = False

    def __init__(self) -> None:
        self.parts: list[bytes] = []

    def write(self, data: bytes) -> int:
        """Take it in."""
        self.parts.append(bytes(data))
        return len(data)

    def taken(self) -> bytes:
        """Everything since the last time."""
        out = b"".join(self.parts)
        self.parts.clear()
        return out

    def flush(self) -> None:
        """There is nothing to flush."""

    def close(self) -> None:
        """There is nothing to close."""
