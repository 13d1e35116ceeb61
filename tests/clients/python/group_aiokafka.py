"""A consumer group by aiokafka: automatic commits, a second member, seek to the beginning.

Usage: group_aiokafka.py BOOTSTRAP TOPIC GROUP
"""

import asyncio
import sys
import time

from aiokafka import AIOKafkaConsumer, AIOKafkaProducer

bootstrap, topic, group = sys.argv[1:4]
PARTITIONS = 6
seen = set()


async def consumer():
    made = AIOKafkaConsumer(
        topic,
        bootstrap_servers=bootstrap,
        group_id=group,
        auto_offset_reset="earliest",
        auto_commit_interval_ms=200,
        session_timeout_ms=6000,
        heartbeat_interval_ms=500,
    )
    await made.start()
    return made


async def poll_until(consumers, condition, what, seconds=40):
    began = time.monotonic()
    while not condition():
        assert time.monotonic() - began < seconds, f"{what}: {[len(c.assignment()) for c in consumers]}, {len(seen)}"
        for one in consumers:
            for records in (await one.getmany(timeout_ms=50)).values():
                seen.update(int(record.value) for record in records)


async def main():
    producer = AIOKafkaProducer(bootstrap_servers=bootstrap, enable_idempotence=True)
    await producer.start()
    for number in range(300):
        await producer.send_and_wait(topic, str(number).encode(), partition=number % PARTITIONS)
    await producer.stop()
    a = await consumer()
    await poll_until([a], lambda: len(a.assignment()) == PARTITIONS, "the only member has everything")
    b = await consumer()
    both = lambda: len(a.assignment()) == 3 and len(b.assignment()) == 3
    await poll_until([a, b], both, "two members share")
    await poll_until([a, b], lambda: seen == set(range(300)), "everything is read")
    await b.stop()
    await poll_until([a], lambda: len(a.assignment()) == PARTITIONS, "the one that is left has everything again")
    await a.stop()
    seen.clear()
    c = await consumer()
    await poll_until([c], lambda: len(c.assignment()) == PARTITIONS, "a later member has everything")
    late = await c.getmany(timeout_ms=1500)
    assert not late, f"what was committed came again: {late}"
    await c.seek_to_beginning()
    await poll_until([c], lambda: seen == set(range(300)), "all of it again")
    await c.stop()
    print("ok")


asyncio.run(main())
