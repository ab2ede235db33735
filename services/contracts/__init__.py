"""What crosses a process boundary: records, topics, status order, problems, the codec."""
