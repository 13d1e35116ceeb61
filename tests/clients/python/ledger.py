"""Produces with an idempotent producer until its input ends, and keeps a ledger of what was acknowledged.

Usage: ledger.py BOOTSTRAP TOPIC PARTITIONS RATE WRITER LEDGER

A value is WRITER:NUMBER:padding, numbers count up per partition. A line of the ledger is `ms partition offset number`
for what was acknowledged, `ms partition error number text` for what was not.
"""

import sys
import threading
import time

from confluent_kafka import Producer

bootstrap, topic, partitions, rate, writer, ledger = sys.argv[1:7]
partitions, rate = int(partitions), float(rate)
out = open(ledger, "w", buffering=1 << 16)
PADDING = "x" * 40

producer = Producer(
    {
        "bootstrap.servers": bootstrap,
        "enable.idempotence": True,
        "linger.ms": 2,
        "message.timeout.ms": 120000,
        "enable.metrics.push": False,
    }
)


def delivered(error, message):
    number = message.value().split(b":")[1].decode()
    now = int(time.time() * 1000)
    if error:
        out.write(f"{now} {message.partition()} error {number} {error}\n")
    else:
        out.write(f"{now} {message.partition()} {message.offset()} {number}\n")


is_over = threading.Event()


def watch():
    sys.stdin.read()
    is_over.set()


threading.Thread(target=watch, daemon=True).start()
numbers = [0] * partitions
began, sent = time.monotonic(), 0
while not is_over.is_set():
    due = int((time.monotonic() - began) * rate)
    if sent >= due:
        producer.poll(0.002)
        continue
    partition = sent % partitions
    value = f"{writer}:{numbers[partition]}:{PADDING}"
    try:
        producer.produce(topic, value, partition=partition, on_delivery=delivered)
    except BufferError:
        producer.poll(0.01)
        continue
    numbers[partition] += 1
    sent += 1
    if sent % 50 == 0:
        producer.poll(0)
left = producer.flush(120)
out.close()
sys.exit(1 if left else 0)
