"""Tables of patients, from bytes in any format to bytes in any format, a chunk at a time. Knows no HTTP.

source -> read -> Chunk -> score -> RecordBatch -> write -> bytes
          formats.py       score.py                formats.py
"""
