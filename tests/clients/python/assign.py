"""Produces with an idempotent producer and reads back with assign(): every codec, keys, headers, offsets.

Usage: assign.py BOOTSTRAP TOPIC CODEC
"""

import sys

from confluent_kafka import OFFSET_BEGINNING, Consumer, KafkaError, Producer, TopicPartition

bootstrap, topic, codec = sys.argv[1:4]
COUNT = 500
errors, offsets = [], []

producer = Producer(
    {
        "bootstrap.servers": bootstrap,
        "enable.idempotence": True,
        "compression.type": codec,
        "linger.ms": 5,
        "message.timeout.ms": 30000,
        "enable.metrics.push": False,
    }
)


def delivered(error, message):
    if error:
        errors.append(str(error))
    else:
        offsets.append(message.offset())


for i in range(COUNT):
    value = f"value {i} " * 300
    producer.produce(
        topic, key=f"k{i}", value=value, partition=0, headers=[("h", str(i).encode()), ("n", None)], on_delivery=delivered
    )
    producer.poll(0)
left = producer.flush(60)
assert left == 0 and not errors, (left, errors[:3])
assert offsets == list(range(COUNT)), offsets[:10]

consumer = Consumer(
    {
        "bootstrap.servers": bootstrap,
        "group.id": "unused",
        "enable.auto.commit": False,
        "enable.partition.eof": True,
        "enable.metrics.push": False,
        "auto.offset.reset": "error",
    }
)
consumer.assign([TopicPartition(topic, 0, OFFSET_BEGINNING)])
got, told = 0, 0
while True:
    message = consumer.poll(20)
    assert message is not None, f"nothing came after {got} records"
    if message.error():
        if message.error().code() == KafkaError._PARTITION_EOF:
            break
        # librdkafka looks for a coordinator because group.id is mandatory, reports the answer once, and reads on.
        if "consumer groups are not built yet" in message.error().str():
            told += 1
            continue
        sys.exit(str(message.error()))
    assert message.offset() == got, (message.offset(), got)
    assert message.key() == f"k{got}".encode()
    assert message.value() == (f"value {got} " * 300).encode()
    assert message.headers() == [("h", str(got).encode()), ("n", None)], message.headers()
    got += 1
consumer.close()
assert got == COUNT, got
assert told <= 1, f"told {told} times that groups are not built yet"
print(f"{codec}: {got} records")
