"""Creates topics; whoever needs one asks for it, whoever comes first makes it."""

from collections.abc import Iterable

from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from aiokafka.errors import KafkaError, TopicAlreadyExistsError, for_code

from services.contracts.topics import PARTITIONS, RETENTION_MS


async def ensure(address: str, names: Iterable[str]) -> None:
    """Create the topics that do not exist yet, replicated as far as there are brokers."""
    admin = AIOKafkaAdminClient(bootstrap_servers=address)
    await admin.start()
    try:
        cluster = await admin.describe_cluster()
        replicas = min(3, len(cluster["brokers"]))
        topics = [
            NewTopic(
                name,
                num_partitions=PARTITIONS,
                replication_factor=replicas,
                topic_configs={"retention.ms": str(RETENTION_MS)},
            )
            for name in names
        ]
        answer = await admin.create_topics(topics)
        for _topic, code, *_ in answer.topic_errors:
            error = for_code(code)
            if code and error is not TopicAlreadyExistsError:
                raise error
    finally:
        await admin.close()


__all__ = ["KafkaError", "ensure"]
