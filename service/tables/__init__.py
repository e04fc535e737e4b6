"""Read, score and write tables of patients in chunks. May import records, model and settings; knows no HTTP.

source -> Format.read -> Chunk -> score -> RecordBatch -> Format.write -> bytes
"""
