// A ledger kept by a client of Kafka that nobody here wrote: see ../go/main.go, of which this is the same in JavaScript.
//
// Usage: ledger.js kafkajs|confluent BOOTSTRAP TOPIC GROUP
"use strict";

const [client, bootstrap, topic, group] = process.argv.slice(2);
// Confluent's has the interface of the other, on top of librdkafka; settings are one level deeper.
const isConfluent = client === "confluent";
const { Kafka, logLevel } = isConfluent ? require("@confluentinc/kafka-javascript").KafkaJS : require("kafkajs");
const settings = (all, newer) => (isConfluent ? { kafkaJS: { ...all, ...newer } } : all);
const PARTITIONS = 6;
const KEYS = 8;
const sleep = (ms) => new Promise((done) => setTimeout(done, ms));

function fail(text) {
  console.error(text);
  process.exit(1);
}
process.on("unhandledRejection", (error) => fail(error.stack));

const kafka = new Kafka(settings({ brokers: bootstrap.split(","), clientId: "ledger", logLevel: logLevel.NOTHING }));

const acked = new Map();
const next = new Map();
const read = [0, 0];
let again = 0;
let failed = 0;

// By partition: the offset that was read last, and by whom.
const last = new Map();

function saw(member, partition, message) {
  const [key, number] = [message.key.toString(), Number(message.value.toString())];
  const expected = next.get(key) ?? 0;
  const where = `member ${member} at ${partition}/${message.offset}, after ${last.get(partition)}`;
  if (number > expected) fail(`${key}: ${number} comes, ${expected} was never read: ${where}`);
  last.set(partition, `${message.offset} by ${member}`);
  if (number === expected) next.set(key, number + 1);
  else again += 1;
  read[member] += 1;
}

async function member(number) {
  const common = { groupId: group, sessionTimeout: 10000, heartbeatInterval: 500, maxWaitTimeInMs: 500 };
  const consumer = kafka.consumer(settings(common, { fromBeginning: true, autoCommitInterval: 500 }));
  await consumer.connect();
  await consumer.subscribe(isConfluent ? { topics: [topic] } : { topics: [topic], fromBeginning: true });
  const eachMessage = async ({ partition, message }) => saw(number, partition, message);
  await consumer.run(isConfluent ? { eachMessage } : { eachMessage, autoCommitInterval: 500 });
  return consumer;
}

// A connection that ends at the wrong moment fails a request of this client for good: an application sends again.
async function send(producer, request) {
  for (let attempts = 1; ; attempts += 1) {
    try {
      return await producer.send(request);
    } catch (error) {
      if (attempts === 10) throw error;
      failed += 1;
      await sleep(100);
    }
  }
}

async function waitUntil(what, ms, holds) {
  for (const began = Date.now(); !(await holds()); await sleep(20)) {
    if (Date.now() - began > ms) fail(`not within ${ms} ms: ${what}`);
  }
}

async function main() {
  const admin = kafka.admin();
  await admin.connect();
  await admin.createTopics({ topics: [{ topic, numPartitions: PARTITIONS, replicationFactor: 2 }] });
  // kafkajs as it is unless one says otherwise. Its idempotence is no help here: when a request fails whose records may be in
  // the log, it gives their sequence numbers to the next ones, which any broker then takes for those that it has.
  const producer = kafka.producer(settings({}, { idempotent: true }));
  await producer.connect();
  const members = [await member(0), await member(1)];
  let isOver = false;
  const write = async (key) => {
    for (let number = 0; !isOver; number += 1) {
      await send(producer, { topic, messages: [{ key, value: String(number) }] });
      acked.set(key, number + 1);
      await sleep(10);
    }
  };
  const writing = Array.from({ length: KEYS }, (_, key) => write(`key-${key}`));
  await waitUntil("both members read", 60000, () => read[0] > 0 && read[1] > 0);
  console.log("ready");
  for await (const _ of process.stdin);
  isOver = true;
  await Promise.all(writing);
  await waitUntil("everything is read", 60000, () => [...acked].every(([key, count]) => next.get(key) === count));
  await waitUntil("no lag is left", 30000, async () => {
    const ends = await admin.fetchTopicOffsets(topic);
    const [{ partitions }] = await admin.fetchOffsets({ groupId: group, topics: [topic] });
    const sum = (all) => all.reduce((total, { offset }) => total + Math.max(Number(offset), 0), 0);
    return sum(ends) === sum(partitions);
  });
  for (const consumer of members) await consumer.disconnect();
  await producer.disconnect();
  await admin.disconnect();
  const total = [...acked.values()].reduce((sum, count) => sum + count, 0);
  console.log(`ok: ${total} records, ${again} of them read again, ${failed} requests failed`);
  process.exit(0);
}

main();
