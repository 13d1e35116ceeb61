"""A consumer group as an application has it: members come and go, offsets are committed, a static member is restarted.

Usage: group_confluent.py BOOTSTRAP TOPIC GROUP STRATEGY

The topic has six partitions and is empty.
"""

import sys
import time

from confluent_kafka import Consumer, ConsumerGroupTopicPartitions, Producer, TopicPartition
from confluent_kafka.admin import AdminClient

bootstrap, topic, group, strategy = sys.argv[1:5]
PARTITIONS = 6
seen = set()


def produce(first, count):
    producer = Producer({"bootstrap.servers": bootstrap, "enable.idempotence": True, "enable.metrics.push": False})
    for number in range(first, first + count):
        producer.produce(topic, str(number), partition=number % PARTITIONS)
    assert producer.flush(30) == 0


def consumer(**more):
    config = {
        "bootstrap.servers": bootstrap,
        "group.id": group,
        "auto.offset.reset": "earliest",
        "enable.auto.commit": False,
        "partition.assignment.strategy": strategy,
        "session.timeout.ms": 6000,
        "heartbeat.interval.ms": 500,
        "enable.metrics.push": False,
    }
    made = Consumer({**config, **more})
    # By a pattern in one of the two runs: for that librdkafka asks for all topics.
    made.subscribe([f"^{topic}$"] if strategy == "range" else [topic])
    return made


def poll_until(consumers, condition, what, seconds=40):
    began = time.monotonic()
    while not condition():
        assert time.monotonic() - began < seconds, f"{what}: {[len(c.assignment()) for c in consumers]}, {len(seen)} seen"
        for one in consumers:
            message = one.poll(0.02)
            if message is not None:
                assert not message.error(), message.error()
                seen.add(int(message.value()))
                one.commit(message, asynchronous=True)


def commit(one):
    one.commit(offsets=one.position(one.assignment()), asynchronous=False)


produce(0, 400)
a = consumer(**{"client.id": "a"})
poll_until([a], lambda: len(a.assignment()) == PARTITIONS, "the only member has everything")
b = consumer(**{"client.id": "b"})
poll_until([a, b], lambda: len(a.assignment()) == 3 and len(b.assignment()) == 3, "two members share")
assert not set(p.partition for p in a.assignment()) & set(p.partition for p in b.assignment())
poll_until([a, b], lambda: seen == set(range(400)), "everything is read")
commit(a)
commit(b)

admin = AdminClient({"bootstrap.servers": bootstrap})
described = admin.describe_consumer_groups([group])[group].result()
assert described.state.name == "STABLE" and len(described.members) == 2, described.state
assert {member.client_id for member in described.members} == {"a", "b"}
listed = admin.list_consumer_groups().result()
assert group in [known.group_id for known in listed.valid], listed.valid

b.close()
poll_until([a], lambda: len(a.assignment()) == PARTITIONS, "the one that is left has everything again")
produce(400, 50)
poll_until([a], lambda: seen == set(range(450)), "what came later is read")
commit(a)
a.close()

offsets = admin.list_consumer_group_offsets([ConsumerGroupTopicPartitions(group)])[group].result().topic_partitions
assert sum(known.offset for known in offsets) == 450, offsets
before = len(seen)
c = consumer()
poll_until([c], lambda: len(c.assignment()) == PARTITIONS, "a later member has everything")
late = c.poll(2)
assert late is None, f"what was committed came again: {late.value()}"
committed = c.committed([TopicPartition(topic, p) for p in range(PARTITIONS)], timeout=10)
assert [known.offset for known in committed] == [75] * PARTITIONS, committed
c.close()

# A static member comes back within its session: nobody else notices.
fixed = {"group.instance.id": "fixed", "session.timeout.ms": 30000}
other, first = consumer(), consumer(**fixed)
poll_until([other, first], lambda: len(other.assignment()) == 3 and len(first.assignment()) == 3, "two share")
mine = sorted(p.partition for p in first.assignment())
revoked = []
other.subscribe([topic], on_revoke=lambda _, partitions: revoked.append(partitions))
first.close()
first = consumer(**fixed)
poll_until([first], lambda: len(first.assignment()) == 3, "the static member is back")
assert sorted(p.partition for p in first.assignment()) == mine
first.close()
other.close()
for future in admin.delete_consumer_groups([group], request_timeout=30).values():
    try:
        future.result()
        deleted = True
    except Exception as error:
        # The static member keeps its place for its session's time.
        deleted = "NON_EMPTY" in str(error)
    assert deleted
print("ok")
