"""Logs in as a client of Amazon MSK does, writes a record and reads it back.

Usage: login.py CLIENT BOOTSTRAP CA TOPIC VALUE

CLIENT is one of

confluent-signer    confluent-kafka with a token of the aws-msk-iam-sasl-signer (OAUTHBEARER)
confluent-expired   the same, with a token that has run out
confluent-jwt       the same with the token in WEIR_TOKEN
confluent-scram     confluent-kafka with SCRAM-SHA-512; WEIR_USER and WEIR_PASSWORD
kafka-python        kafka-python's own AWS_MSK_IAM
kafka-python-elsewhere   the same, signed for another host

Credentials are AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY, AWS_SESSION_TOKEN and AWS_REGION. Ends with 0 once the record was read;
with 3 and the client's own words once it was refused.
"""

import os
import sys
import time

client, bootstrap, ca, topic, value = sys.argv[1:]


def refused(words):
    print(words, file=sys.stderr)
    sys.exit(3)


def confluent(mechanism):
    import confluent_kafka

    words = []

    def failed(error):
        words.append(str(error))

    config = {
        "bootstrap.servers": bootstrap,
        "security.protocol": "SASL_SSL",
        "ssl.ca.location": ca,
        "sasl.mechanism": mechanism,
        "error_cb": failed,
        "topic.metadata.refresh.interval.ms": 500,
    }
    if client == "confluent-jwt":
        config["oauth_cb"] = lambda _: (os.environ["WEIR_TOKEN"], time.time() + 900)
    elif mechanism == "OAUTHBEARER":
        from aws_msk_iam_sasl_signer import MSKAuthTokenProvider

        if client == "confluent-expired":
            # As the signer has it, but of less time.
            MSKAuthTokenProvider.DEFAULT_TOKEN_EXPIRY_SECONDS = 1

        def token(_):
            token, expires_ms = MSKAuthTokenProvider.generate_auth_token(os.environ["AWS_REGION"])
            if client == "confluent-expired":
                time.sleep(3)
            return token, time.time() + 900

        config["oauth_cb"] = token
    else:
        config["sasl.username"] = os.environ["WEIR_USER"]
        config["sasl.password"] = os.environ["WEIR_PASSWORD"]
    outcome = []
    producer = confluent_kafka.Producer(config)
    producer.produce(topic, value.encode(), on_delivery=lambda error, _: outcome.append(error))
    until = time.time() + 30
    while not outcome and time.time() < until:
        producer.poll(0.1)
        if any("uthentication" in word for word in words):
            refused(" ".join(words))
    if not outcome:
        sys.exit(f"no outcome in 30 s: {words}")
    if outcome[0] is not None:
        refused(str(outcome[0]))
    consumer = confluent_kafka.Consumer({**config, "group.id": f"{topic}-{client}", "auto.offset.reset": "earliest"})
    consumer.subscribe([topic])
    while time.time() < until:
        message = consumer.poll(1)
        if message is None:
            continue
        if message.error():
            refused(str(message.error()))
        if message.value() == value.encode():
            consumer.close()
            return
    sys.exit("the record was not read in 30 s")


def kafka_python():
    import kafka
    from kafka.errors import KafkaError
    from kafka.net.sasl import msk

    if client == "kafka-python-elsewhere":
        mechanism = msk.SaslMechanismAwsMskIam
        begin = mechanism.__init__

        def elsewhere(self, **config):
            begin(self, **config)
            self.host = "broker.us-east-1.example"

        mechanism.__init__ = elsewhere
    config = {
        "bootstrap_servers": bootstrap,
        "security_protocol": "SASL_SSL",
        "ssl_cafile": ca,
        "sasl_mechanism": "AWS_MSK_IAM",
    }
    try:
        producer = kafka.KafkaProducer(**config, max_block_ms=20000)
        producer.send(topic, value.encode()).get(20)
        consumer = kafka.KafkaConsumer(
            topic, **config, group_id=f"{topic}-{client}", auto_offset_reset="earliest", consumer_timeout_ms=20000
        )
    except KafkaError as error:
        refused(repr(error))
    if not any(message.value == value.encode() for message in consumer_until(consumer, value)):
        sys.exit("the record was not read in 20 s")


def consumer_until(consumer, value):
    for message in consumer:
        yield message
        if message.value == value.encode():
            return


if client == "confluent-scram":
    confluent("SCRAM-SHA-512")
elif client.startswith("confluent"):
    confluent("OAUTHBEARER")
else:
    kafka_python()
