"""Many consumers of one group commit all the while; what was acknowledged is there afterwards, whatever fails meanwhile.

Usage: group_many.py BOOTSTRAP TOPIC GROUP MEMBERS PARTITIONS

Says `ready` once every partition has an owner; then how long a rebalance takes when one member leaves. Commits until its
input ends, checks, and says `ok` with the longest time without an acknowledged commit.
"""

import os
import sys
import threading
import time
import traceback

from confluent_kafka import Consumer, KafkaException, TopicPartition

bootstrap, topic, group, members, partitions = sys.argv[1:6]
members, partitions = int(members), int(partitions)
acked, tried = {}, {}
lock = threading.Lock()
is_over = threading.Event()
last_ack, longest = time.monotonic(), 0.0


class Member(threading.Thread):
    def __init__(self, number):
        super().__init__(daemon=True)
        self.has_left = threading.Event()
        self.owned = set()
        self.consumer = Consumer(
            {
                "bootstrap.servers": bootstrap,
                "group.id": group,
                "client.id": f"m{number}",
                "enable.auto.commit": False,
                "session.timeout.ms": 10000,
                "heartbeat.interval.ms": 500,
                "partition.assignment.strategy": "range",
                "enable.metrics.push": False,
            }
        )

    def take(self, _, given):
        self.owned = {one.partition for one in given}

    def give(self, _, gone):
        self.owned = set()

    def run(self):
        global last_ack, longest
        self.consumer.subscribe([topic], on_assign=self.take, on_revoke=self.give, on_lost=self.give)
        value = 0
        while not self.has_left.is_set():
            self.consumer.poll(0.2)
            owned = sorted(self.owned)
            if not owned or is_over.is_set():
                continue
            value = int(time.time() * 1000)
            offsets = [TopicPartition(topic, partition, value) for partition in owned]
            with lock:
                for partition in owned:
                    tried.setdefault(partition, set()).add(value)
            try:
                done = self.consumer.commit(offsets=offsets, asynchronous=False)
            except KafkaException:
                # Fenced, or nobody answered: whoever has the partition now goes on.
                continue
            with lock:
                now = time.monotonic()
                longest, last_ack = max(longest, now - last_ack), now
                for one in done:
                    if one.error is None:
                        acked[one.partition] = max(acked.get(one.partition, 0), value)
        self.consumer.close()


def owners(all_members):
    return sorted(partition for one in all_members for partition in one.owned)


def wait_until_shared(all_members, seconds):
    began = time.monotonic()
    while owners(all_members) != list(range(partitions)):
        assert time.monotonic() - began < seconds, f"{len(owners(all_members))} of {partitions} partitions have owners"
        time.sleep(0.02)
    return time.monotonic() - began


def end_at_once(kind, error, trace):
    # Threads of clients that wait for an answer must not keep the process.
    traceback.print_exception(kind, error, trace)
    os._exit(1)


sys.excepthook = end_at_once
everyone = [Member(number) for number in range(members)]
for one in everyone:
    one.start()
wait_until_shared(everyone, 120)
print("ready", flush=True)
time.sleep(2)
gone = everyone.pop()
gone.has_left.set()
gone.join(30)
took = wait_until_shared(everyone, 60)
print(f"rebalanced in {took:.2f} s after one of {members} left", flush=True)
last_ack, longest = time.monotonic(), 0.0
sys.stdin.read()
wait_until_shared(everyone, 60)
time.sleep(1)
is_over.set()
time.sleep(1)
# One that is no member asks.
stranger = Consumer({"bootstrap.servers": bootstrap, "group.id": group})
found = stranger.committed([TopicPartition(topic, partition) for partition in range(partitions)], timeout=30)
stranger.close()
for one in found:
    assert one.error is None, one.error
    assert one.offset in tried[one.partition], f"{one.partition}: nobody committed {one.offset}"
    assert one.offset >= acked.get(one.partition, 0), f"{one.partition}: {acked[one.partition]} was acknowledged, {one.offset} is there"
assert len(found) == partitions
for one in everyone:
    one.has_left.set()
for one in everyone:
    one.join(30)
print(f"ok: {len(acked)} partitions, longest time without a commit {longest:.2f} s", flush=True)
