"""Where a record goes by its key."""

from aiokafka.partitioner import DefaultPartitioner
from hypothesis import given
from hypothesis import strategies as st

from services.runtime.kafka.producer import _partition

WHOLE = DefaultPartitioner()


@given(st.binary(max_size=64), st.integers(min_value=1, max_value=20))
def test_a_key_goes_where_the_library_would_send_it(key: bytes, count: int) -> None:
    """What was remembered of a key leads to the same partition as every other client's hash."""
    partitions = list(range(count))
    for _ in range(2):
        assert _partition(key, partitions, partitions) == WHOLE(key, partitions, partitions)
