// Logs in with a token of the aws-msk-iam-sasl-signer, writes a record and reads it back.
//
// Usage: login.js BOOTSTRAP CA TOPIC VALUE
//
// Credentials are those of the environment. Ends with 0 once the record was read; with 3 and the client's words once it was refused.
const fs = require("fs");
const { Kafka, logLevel } = require("kafkajs");
const { generateAuthToken } = require("aws-msk-iam-sasl-signer-js");

const [bootstrap, ca, topic, value] = process.argv.slice(2);

async function token() {
  const { token } = await generateAuthToken({ region: process.env.AWS_REGION });
  return { value: token };
}

async function main() {
  const kafka = new Kafka({
    brokers: [bootstrap],
    ssl: { ca: [fs.readFileSync(ca)] },
    sasl: { mechanism: "oauthbearer", oauthBearerProvider: token },
    logLevel: logLevel.NOTHING,
    retry: { retries: 2 },
  });
  const producer = kafka.producer();
  await producer.connect();
  await producer.send({ topic, messages: [{ value }] });
  await producer.disconnect();
  const consumer = kafka.consumer({ groupId: `${topic}-js` });
  await consumer.connect();
  await consumer.subscribe({ topic, fromBeginning: true });
  await new Promise((resolve, reject) => {
    setTimeout(() => reject(new Error("the record was not read in 20 s")), 20000).unref();
    consumer.run({
      eachMessage: async ({ message }) => {
        if (message.value.toString() === value) resolve();
      },
    });
  });
  await consumer.disconnect();
}

main().then(
  () => process.exit(0),
  (error) => {
    console.error(String(error));
    process.exit(3);
  },
);
