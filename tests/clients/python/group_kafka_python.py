"""A consumer group by kafka-python: two members share, one leaves, a third goes on from what was committed.

Usage: group_kafka_python.py BOOTSTRAP TOPIC GROUP
"""

import sys
import time

from kafka import KafkaConsumer, KafkaProducer

bootstrap, topic, group = sys.argv[1:4]
PARTITIONS = 6
seen = set()


def consumer():
    return KafkaConsumer(
        topic,
        bootstrap_servers=bootstrap,
        group_id=group,
        auto_offset_reset="earliest",
        enable_auto_commit=False,
        session_timeout_ms=6000,
        heartbeat_interval_ms=500,
    )


def poll_until(consumers, condition, what, seconds=40):
    began = time.monotonic()
    while not condition():
        assert time.monotonic() - began < seconds, f"{what}: {[len(c.assignment()) for c in consumers]}, {len(seen)}"
        for one in consumers:
            for records in one.poll(timeout_ms=50).values():
                seen.update(int(record.value) for record in records)


producer = KafkaProducer(bootstrap_servers=bootstrap, acks="all")
for number in range(300):
    producer.send(topic, str(number).encode(), partition=number % PARTITIONS).get(30)
producer.close()
a = consumer()
poll_until([a], lambda: len(a.assignment()) == PARTITIONS, "the only member has everything")
b = consumer()
# A member that joins while another does not poll would wait for it: both poll.
poll_until([a, b], lambda: len(a.assignment()) == 3 and len(b.assignment()) == 3, "two members share")
poll_until([a, b], lambda: seen == set(range(300)), "everything is read")
a.commit()
b.commit()
b.close()
poll_until([a], lambda: len(a.assignment()) == PARTITIONS, "the one that is left has everything again")
a.commit()
a.close()
c = consumer()
poll_until([c], lambda: len(c.assignment()) == PARTITIONS, "a later member has everything")
late = c.poll(timeout_ms=2000)
assert not late, f"what was committed came again: {late}"
assert [c.committed(p) for p in sorted(c.assignment())] == [50] * PARTITIONS
ends = c.end_offsets(list(c.assignment()))
assert sum(ends.values()) == 300
# By time: everything is younger than an hour ago, nothing than in an hour.
now = int(time.time() * 1000)
early = c.offsets_for_times({p: now - 3600_000 for p in c.assignment()})
assert all(found.offset == 0 for found in early.values()), early
assert all(found is None for found in c.offsets_for_times({p: now + 3600_000 for p in c.assignment()}).values())
c.close()
print("ok")
