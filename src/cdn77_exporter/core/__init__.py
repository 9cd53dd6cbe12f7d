"""The pure part: no asyncio, no clock, no environment, no logging, no files."""
